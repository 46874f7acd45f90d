// What the page knows of the station: status, the latest results, jobs under way. Kept current by server-sent events.

import { get, query } from "/static/net.js";

const KEPT = 200;
const SILENCE = 6000; // ms without a word of the station itself, whose heart beats once a second

export const store = {
  me: null,
  status: null,
  isAway: true,
  heardAt: 0, // performance.now() of the last word of the station itself
  results: [], // by number, ascending
  rejects: [], // newest first
  jobs: new Map(), // job id to what is provisional of it
  clockOffset: 0, // ms that the station's clock is ahead of this browser's
};

const listeners = new Set();
export const listen = (listener) => listeners.add(listener);
const tell = (what, data) => listeners.forEach((listener) => listener(what, data));

export const isReject = (result) => result.decision !== "OK";
/** Tell whether a result is about a part of the line: a challenge part's verdict must not look like one. */
export const isPart = (result) => result.origin !== "challenge";
export const partResults = () => store.results.filter(isPart);
export const lastResult = () => partResults().pop() || null;
const lastNumber = () => store.results[store.results.length - 1]?.number ?? 0;
export const stationNow = () => Date.now() + store.clockOffset;

let lastEvent = 0;
let source = null;
let fetching = null;

export async function start() {
  connect();
  setInterval(checkSilence, 1000);
}

/** Fetch what was missed: status, and results by number. */
export function catchUp() {
  fetching ??= fetchMissed().finally(() => {
    fetching = null;
  });
  return fetching;
}

async function fetchMissed() {
  try {
    noteStatus(await get("/api/status"));
    if ((store.status.last_number || 0) < lastNumber())
      Object.assign(store, { results: [], rejects: [] }); // another ledger
    const after = lastNumber();
    if (!after) {
      (await get(`/api/results?${query({ newest_first: true, limit: 100 })}`)).reverse().forEach(insert);
      for (const decision of ["NOK", "NOT_DECIDABLE"]) {
        (await get(`/api/results?${query({ decision, newest_first: true, limit: 16 })}`))
          .filter(isPart)
          .forEach(insertReject);
      }
    } else {
      await fetchAfter(after);
    }
    tell("results");
  } catch (error) {
    console.info(error.message);
  }
}

/** Fetch results behind a number; far behind, only the newest. */
async function fetchAfter(after) {
  const isFar = store.status.last_number - after > KEPT;
  const found = await get(
    `/api/results?${query(isFar ? { newest_first: true, limit: KEPT } : { after, limit: KEPT })}`,
  );
  (isFar ? found.reverse() : found).forEach(insert);
}

function connect() {
  source = new EventSource("/api/events");
  source.onmessage = (message) => take(JSON.parse(message.data));
  source.onerror = () => {
    setAway(true);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}

function take(event) {
  if (event.number) noteNumber(event);
  const act = acts[event.kind];
  if (act) act(event.data, event);
  tell(event.kind, event.data);
}

function noteNumber(event) {
  if (lastEvent && event.number !== lastEvent + 1) catchUp();
  lastEvent = event.number;
  store.heardAt = performance.now();
  store.clockOffset = Date.parse(event.at) - Date.now();
  setAway(false);
}

const acts = {
  present: () => {
    lastEvent = 0;
    store.heardAt = performance.now();
    setAway(false);
    catchUp();
  },
  away: (status) => {
    if (!store.status && status.state) store.status = status;
    setAway(true);
  },
  "signed-out": () => {
    source.close();
    location.assign("/login");
  },
  heartbeat: noteStatus,
  "job-started": (data) =>
    store.jobs.set(data.job_id, {
      job_id: data.job_id,
      part_id: data.part_id || "",
      since: performance.now(),
      verdict: "",
      mask: null,
    }),
  progress: (data) => noteProgress(data),
  result: (data) => insert(data),
  evidence: ({ result_id, photo, mask_file }) => change(result_id, { photo: photo || "", mask_file: mask_file || "" }),
  review: ({ result_id, decision }) => change(result_id, { review: decision || "" }),
};

function noteStatus(status) {
  store.status = status;
  store.heardAt = performance.now();
  if (!status.num_waiting) dropOldJobs();
  setTimeout(checkMissed, 300); // a result may be on its way behind its number
  tell("status");
}

function checkMissed() {
  if (!store.isAway && (store.status.last_number || 0) > lastNumber()) catchUp();
}

function dropOldJobs() {
  for (const [id, job] of store.jobs) if (performance.now() - job.since > 3000) store.jobs.delete(id);
}

function noteProgress({ job_id, event, value, decision }) {
  const job = store.jobs.get(job_id);
  if (!job) return;
  if (event === "verdict?") job.verdict = value ?? decision;
  if (event === "mask") job.mask = value;
  if (event === "cells")
    job.mask = {
      ...(job.mask || lastResult()?.mask || { rows: 16, cols: 16 }),
      cells: [...(job.mask?.cells || []), ...value],
    };
}

/** Put a result in its place; the same number again replaces it. */
export function insert(result) {
  store.jobs.delete(result.job_id);
  const list = store.results;
  let index = list.length;
  while (index > 0 && list[index - 1].number > result.number) index -= 1;
  if (index > 0 && list[index - 1].number === result.number) list[index - 1] = result;
  else list.splice(index, 0, result);
  if (list.length > KEPT) list.shift();
  if (isPart(result) && isReject(result)) insertReject(result);
}

function insertReject(result) {
  const others = store.rejects.filter((one) => one.number !== result.number);
  store.rejects = [result, ...others].sort((a, b) => b.number - a.number).slice(0, 24);
}

export function change(resultId, values) {
  for (const result of new Set([...store.results, ...store.rejects]))
    if (result.result_id === resultId) Object.assign(result, values);
  tell("changed", resultId);
}

function setAway(isAway) {
  if (store.isAway === isAway) return;
  store.isAway = isAway;
  if (isAway) store.jobs.clear();
  tell("presence");
}

function checkSilence() {
  if (store.heardAt && performance.now() - store.heardAt > SILENCE) setAway(true);
  tell("tick");
}
