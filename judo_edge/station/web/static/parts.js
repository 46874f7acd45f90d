// How one part is shown: verdict, photos with the mask, score, facts, a person's review, questions.

import { byId, draw, make, sign, toast } from "/static/dom.js";
import { lines, post } from "/static/net.js";
import { change, stationNow, store } from "/static/store.js";

export const WORDS = { OK: "OK", NOK: "NOK", NOT_DECIDABLE: "NOT DECIDABLE" };

export const ageOf = (result) => age((stationNow() - Date.parse(result.created)) / 1000);

export function age(seconds) {
  if (!(seconds > 1)) return "just now";
  if (seconds < 100) return `${Math.round(seconds)} s ago`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

export const clock = (text) => new Date(text).toLocaleTimeString("en-GB");
export const moment = (text) =>
  text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "";
export const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** The verdict in letters for two metres. */
export function band(result, { note = "" } = {}) {
  const facts = [
    `result ${result.number}`,
    `${number(result.total_seconds)} s`,
    result.origin === "challenge" ? "challenge part" : result.is_simulated && "simulated",
    result.review && `reviewed: ${result.review}`,
  ];
  return make(
    "div",
    { class: "band", data: { decision: result.decision, simulated: Boolean(result.is_simulated) } },
    sign(result.decision),
    make("div", { class: "word" }, WORDS[result.decision] || result.decision),
    make(
      "div",
      { class: "about" },
      make("div", { class: "part-id" }, result.part_id || result.part || "no part id"),
      make("div", { class: "reason" }, result.reason || ""),
      make(
        "div",
        { class: "small" },
        make("span", { class: "age" }, note || ageOf(result)),
        ...facts.filter(Boolean).map((fact) => ` · ${fact}`),
      ),
    ),
  );
}

/** Photo with its mask, and the reference that it was compared with. */
export function pictures(result, { onShown = null } = {}) {
  const mask = result.mask && result.mask.cells?.length ? overlay(result.mask) : null;
  const count = result.mask?.cells?.length || 0;
  const told = count
    ? `${count} marked cell${count > 1 ? "s" : ""} of ${result.mask.rows} × ${result.mask.cols}`
    : "no cell marked";
  const base = `/api/results/${encodeURIComponent(result.result_id)}`;
  return [
    picture(
      result.photo ? `${base}/photo?size=1280` : "",
      "Part",
      told,
      mask,
      onShown,
      !result.code && stationNow() - Date.parse(result.created) < 3000 ? "photo follows" : "no photo kept",
    ),
    picture(
      result.reference_id ? `${base}/reference?size=1280` : "",
      "Reference",
      result.reference_id ? result.reference_id.slice(0, 12) : "none",
      null,
      null,
      "no reference",
    ),
  ];
}

/** A picture whose mask is laid over exactly the pixels of the photo. */
export function picture(url, title, text, mask, onShown, placeholder = "no photo kept") {
  const frame = make("div", { class: "frame" });
  const lacking = () => {
    frame.classList.add("empty");
    frame.replaceChildren(mask || make("div", { class: "lacking" }, placeholder));
  };
  if (url) {
    const image = make("img", { alt: title, decoding: "async", on: { error: lacking } });
    image.addEventListener("load", () => {
      frame.style.setProperty("--ratio", `${image.naturalWidth} / ${image.naturalHeight}`);
      frame.style.setProperty("--number", image.naturalWidth / image.naturalHeight);
      if (onShown) requestAnimationFrame(onShown);
    });
    image.src = url;
    frame.append(image, mask || "");
  } else {
    lacking();
  }
  if (mask) frame.addEventListener("click", toggleMasks);
  return make(
    "figure",
    { class: "picture" },
    make("div", { class: "stage" }, frame),
    make("figcaption", {}, make("b", {}, title), ` ${text}`),
  );
}

export const toggleMasks = () => document.body.classList.toggle("no-masks");

export function overlay({ rows, cols, cells }, isProvisional = false) {
  const boxes = cells.map(([row, col]) => draw("rect", { x: col - 1, y: row - 1, width: 1, height: 1 }));
  return draw(
    "svg",
    {
      class: isProvisional ? "mask provisional" : "mask",
      viewBox: `0 0 ${cols} ${rows}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    },
    boxes,
  );
}

/** Score against its threshold: the threshold stays in the middle, the scale follows the latest parts. */
export function scoreBar(result, others = []) {
  if (result.score === null || result.score === undefined) {
    return make(
      "div",
      { class: "score" },
      make("h3", {}, "Score"),
      make("p", { class: "quiet" }, "no score: nothing was compared"),
    );
  }
  const limit = result.threshold ?? 0;
  const span = Math.max(
    0.5,
    ...[result, ...others]
      .filter((one) => typeof one.score === "number" && (one.threshold ?? 0) === limit)
      .map((one) => Math.abs(one.score - limit)),
  );
  const at = Math.max(0, Math.min(100, 50 + (50 * (result.score - limit)) / (span * 1.1)));
  const bar = draw(
    "svg",
    { class: "score-bar", viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { x: 0, y: 3, width: 50, height: 8, class: "good" }),
    draw("rect", { x: 50, y: 3, width: 50, height: 8, class: "bad" }),
    draw("rect", { x: 0, y: 3, width: at, height: 8, class: "fill", "data-decision": result.decision }),
    draw("line", { x1: 50, x2: 50, y1: 0, y2: 14, class: "limit" }),
    draw("rect", { x: at - 0.6, y: 0, width: 1.2, height: 14, class: "needle" }),
  );
  const limitText =
    typeof result.threshold === "number" ? `threshold ${number(limit)}` : "no threshold: JUDO's words decided";
  return make(
    "div",
    { class: "score" },
    make("h3", {}, "Score"),
    make("div", { class: "score-value" }, number(result.score)),
    bar,
    make("div", { class: "quiet" }, limitText),
  );
}

/** Buttons of a person's verdict. */
export function reviewButtons(result, judge = review) {
  const button = (decision, key) => {
    const isSame = result.decision === decision;
    const label =
      result.decision === "NOT_DECIDABLE"
        ? `Say ${decision}`
        : isSame
          ? `Confirm ${decision}`
          : `Overrule: ${decision}`;
    const attributes = {
      type: "button",
      class: `review ${decision}`,
      "aria-pressed": String(result.review === decision),
      "aria-keyshortcuts": key,
    };
    return make(
      "button",
      { ...attributes, on: { click: () => judge(result, decision) } },
      make("span", {}, label),
      make("kbd", {}, key),
    );
  };
  return make("div", { class: "reviews" }, button("OK", "O"), button("NOK", "N"));
}

export async function review(result, decision) {
  const before = result.review || "";
  try {
    const changed = await post(`/api/results/${encodeURIComponent(result.result_id)}/review`, { decision });
    change(result.result_id, { review: changed.review || "" });
    result.review = changed.review || "";
    const told = decision
      ? `${decision === result.decision ? "Confirmed" : "Said"} ${decision}: ${result.part_id || `result ${result.number}`}`
      : "Review taken back";
    toast(told, { action: decision !== before ? { label: "Undo", run: () => review(result, before) } : null });
  } catch (error) {
    toast(error.message, { isError: true });
  }
}

/** A question about the part, and its answer as it comes. */
export function askBox(result) {
  const answer = make("div", { class: "answer", role: "log", "aria-live": "polite" });
  const input = make("input", {
    type: "text",
    name: "question",
    maxlength: 500,
    placeholder: "Ask JUDO about this part",
    "aria-label": "Question",
    autocomplete: "off",
  });
  const button = make("button", { class: "primary" }, "Ask");
  const submit = (event) => {
    event.preventDefault();
    if (input.value.trim()) ask(result, input.value.trim(), answer, button);
  };
  return make("div", { class: "ask" }, make("form", { class: "row", on: { submit } }, input, button), answer);
}

async function ask(result, question, answer, button) {
  const text = make("p", { class: "reply", "aria-busy": "true" });
  answer.replaceChildren(make("p", { class: "question" }, question), text);
  button.disabled = true;
  try {
    for await (const line of lines(`/api/results/${encodeURIComponent(result.result_id)}/ask`, { question })) {
      if (line.piece) text.append(line.piece);
      if (line.error) throw new Error(line.error);
    }
  } catch (error) {
    answer.append(make("p", { class: "error" }, error.message));
  } finally {
    text.setAttribute("aria-busy", "false");
    button.disabled = false;
  }
}

export const isEngineer = () => store.me?.role === "engineer";
export const isDialogOpen = () => byId("dialog").open;

/** Do something, and say how it went. */
export async function run(action, told = "") {
  try {
    await action();
    if (told) toast(told);
  } catch (error) {
    toast(error.message, { isError: true });
  }
}
