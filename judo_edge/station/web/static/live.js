// The section for the line: the newest verdict, or what is known of the part under way.

import { byId, make, put, sign, toast } from "/static/dom.js";
import {
  WORDS,
  ageOf,
  band,
  clock,
  overlay,
  picture,
  pictures,
  review,
  reviewButtons,
  scoreBar,
} from "/static/parts.js";
import { renderCounters, renderLatency } from "/static/side.js";
import { lastResult, partResults, store } from "/static/store.js";

const PATIENCE = 250; // ms before a part under way takes the place of the verdict before it
const RETURN = 60000; // ms without a key or touch after which the newest part is shown again
const SETTLED = 500; // ms that a part must have been shown before a person's verdict can be meant for it

let chosen = null; // an older result that somebody looks at; null follows the line
let touched = 0;
let shownId = "";
let shownSince = 0;
let openPart = () => {};

export function setUp(open) {
  openPart = open;
  for (const kind of ["pointerdown", "keydown"])
    document.addEventListener(kind, () => {
      touched = performance.now();
    });
}

export function look(result) {
  chosen = result;
  render();
}

export function follow() {
  chosen = null;
  render();
}

export const current = () => chosen || (jobToShow() ? null : lastResult());

/** The newest part under way, once it has been so for longer than a blink. */
function jobToShow() {
  const job = [...store.jobs.values()].pop();
  return !chosen && !store.isAway && job && performance.now() - job.since >= PATIENCE ? job : null;
}

export function onEvent(what) {
  if (what === "result") markVerdict();
  if (what === "job-started") setTimeout(render, PATIENCE);
  if (what === "tick" && chosen && performance.now() - touched > RETURN) chosen = null;
  if (!["job-started", "heartbeat", "breath"].includes(what)) render();
}

function markVerdict() {
  performance.clearMarks();
  performance.mark(`verdict ${lastResult()?.result_id}`);
}

export function render() {
  const job = jobToShow();
  const result = job ? null : chosen || lastResult();
  if (job) renderJob(job);
  else if (result) renderResult(result);
  else renderNothing();
  renderPart(result);
  renderCounters();
  renderLatency();
  renderRejects();
  byId("live").classList.toggle("stale", store.isAway);
  byId("live").classList.toggle("older", Boolean(chosen));
}

function renderNothing() {
  const text = store.isAway ? "Station is away" : "Waiting for the first part";
  put(byId("live-band"), text, () =>
    make("div", { class: "band none" }, sign(""), make("div", { class: "word" }, text)),
  );
  put(byId("live-pictures"), "none", () => [
    picture("", "Part", "", null, null, ""),
    picture("", "Reference", "", null, null, ""),
  ]);
}

function renderResult(result) {
  if (shownId !== result.result_id) [shownId, shownSince] = [result.result_id, performance.now()];
  const note = noteOf(result);
  const mark = () => performance.mark(`shown ${result.result_id}`);
  put(byId("live-band"), JSON.stringify([result.result_id, result.review]), () => band(result, { note }));
  byId("live-band").querySelector(".age").textContent = note;
  put(byId("live-pictures"), `${result.result_id} ${result.photo}`, () => pictures(result, { onShown: mark }));
}

function noteOf(result) {
  if (store.isAway) return `station is away: this verdict is from ${ageOf(result)}`;
  if (!chosen) return ageOf(result);
  const newest = lastResult();
  const told = newest && newest.number > result.number ? `; the newest is ${WORDS[newest.decision]}` : "";
  return `an earlier part, from ${clock(result.created)}${told} · Esc: live`;
}

/** What is known of a part before its verdict; drawn so that nobody takes it for one. */
function renderJob(job) {
  const guess = job.verdict ? `looks ${WORDS[job.verdict] || job.verdict} so far` : "no verdict yet";
  put(byId("live-band"), `${job.job_id} ${job.verdict}`, () =>
    make(
      "div",
      { class: "band working" },
      sign(""),
      make("div", { class: "word" }, "INSPECTING"),
      make(
        "div",
        { class: "about" },
        make("div", { class: "part-id" }, job.part_id || "no part id"),
        make("div", { class: "provisional" }, `provisional: ${guess}`),
        make("div", { class: "small age" }),
      ),
    ),
  );
  byId("live-band").querySelector(".age").textContent = `for ${Math.round((performance.now() - job.since) / 1000)} s`;
  const cells = job.mask?.cells?.length || 0;
  put(byId("live-pictures"), `${job.job_id} ${cells}`, () => [
    picture(
      "",
      "Part",
      cells ? `provisional: ${cells} cells so far` : "under way",
      cells ? overlay(job.mask, true) : null,
      null,
      "inspecting …",
    ),
    picture("", "Reference", "", null, null, ""),
  ]);
}

function renderPart(result) {
  const key = result ? JSON.stringify([result.result_id, result.review]) : "none";
  put(byId("live-part"), key, () =>
    result
      ? [
          scoreBar(result, partResults()),
          reviewButtons(result, judge),
          make(
            "button",
            { type: "button", class: "wide", on: { click: () => openPart(result) } },
            make("span", {}, "Look closer, ask"),
            make("kbd", {}, "Enter"),
          ),
        ]
      : make("p", { class: "quiet" }, "Score and review follow with the verdict."),
  );
}

/** Take a person's verdict, unless the part changed under the finger. */
function judge(result, decision) {
  if (!chosen && performance.now() - shownSince < SETTLED) {
    return toast(`${result.part_id || `Result ${result.number}`} has only just come: press again if you mean it`);
  }
  return review(result, decision);
}

function renderRejects() {
  const list = store.rejects.slice(0, 16);
  const key = JSON.stringify([list.map((one) => [one.number, one.photo]), chosen?.result_id]);
  put(byId("live-rejects"), key, () => [
    make("h3", {}, "Last rejects"),
    make("div", { class: "strip" }, list.length ? list.map(rejectButton) : make("p", { class: "quiet" }, "none")),
  ]);
}

function rejectButton(result) {
  const attributes = {
    type: "button",
    class: "reject",
    "aria-pressed": String(chosen?.result_id === result.result_id),
    title: `${WORDS[result.decision]}: ${result.reason}`,
  };
  return make(
    "button",
    { ...attributes, data: { decision: result.decision }, on: { click: () => look(result) } },
    thumbnail(result),
    sign(result.decision),
    make("span", { class: "reject-text" }, result.part_id || `#${result.number}`),
  );
}

export function thumbnail(result) {
  if (!result.photo) return make("span", { class: "thumb" });
  const image = make("img", {
    class: "thumb",
    alt: "",
    loading: "lazy",
    src: `/api/results/${encodeURIComponent(result.result_id)}/photo?size=240`,
  });
  image.addEventListener("error", () => image.replaceWith(make("span", { class: "thumb" })));
  return image;
}

export function onKey(key) {
  const result = current();
  if (key === "ArrowLeft" || key === "ArrowRight") return step(key === "ArrowLeft" ? -1 : 1);
  if (key === "Escape") return follow() || true;
  if (!result) return false;
  if (key === "Enter") return openPart(result) || true;
  if (key === "o" || key === "n") return judge(result, key === "o" ? "OK" : "NOK") || true;
  return false;
}

function step(by) {
  const list = partResults();
  const at = chosen ? list.findIndex((one) => one.number >= chosen.number) : list.length - 1;
  const next = list[at + by];
  if (next === lastResult()) follow();
  else if (next) look(next);
  return true;
}
