// Talks to the page's server. Every write carries the session's token.

let token = "";

export async function signIn() {
  const me = await get("/api/me");
  token = me.csrf;
  return me;
}

export const get = (path) => request(path, {});

export const post = (path, body = {}) =>
  request(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

export const upload = (path, file) =>
  request(path, {
    method: "POST",
    body: file,
    headers: { "Content-Type": file.type.startsWith("image/") ? file.type : "image/unknown" },
  });

/** Yield the records of a streamed answer, one JSON a line. */
export async function* lines(path, body) {
  const answer = await fetched(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

export const query = (values) =>
  new URLSearchParams(
    Object.entries(values).filter(([, value]) => value !== "" && value !== false && value !== null),
  ).toString();

const request = async (path, options) => (await fetched(path, options)).json();

async function fetched(path, options) {
  const headers = { ...options.headers, ...(options.method ? { "X-CSRF-Token": token } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "same-origin" });
  } catch {
    throw new Error("the page's server does not answer");
  }
  if (answer.status === 401) {
    location.assign("/login");
    throw new Error("signed out");
  }
  if (!answer.ok) throw new Error(await complaint(answer));
  return answer;
}

async function complaint(answer) {
  try {
    const { found, wanted, action } = await answer.json();
    return [found, wanted && `wanted: ${wanted}`, action].filter(Boolean).join("; ");
  } catch {
    return `the server answered ${answer.status}`;
  }
}
