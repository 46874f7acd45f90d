// The section for the line: the newest verdict, or what is known of the part under way.

import { byId, draw, make, sign } from "/static/dom.js";
import { WORDS, ageOf, band, clock, number, overlay, picture, pictures, reviewButtons, scoreBar, review, isTyping } from "/static/parts.js";
import { lastResult, store } from "/static/store.js";

const PATIENCE = 250; // ms before a part under way takes the place of the verdict before it
const RETURN = 60000; // ms without a key or touch after which the newest part is shown again

let chosen = null; // an older result that somebody looks at; null follows the line
let chosenAt = 0;
let shown = ""; // what the pictures show
let openPart = () => {};

export function setUp(open) {
  openPart = open;
  document.addEventListener("pointerdown", () => { chosenAt = performance.now(); });
}

export function look(result) {
  chosen = result;
  chosenAt = performance.now();
  render();
}

export function follow() {
  chosen = null;
  render();
}

export const current = () => chosen || (underWay() ? null : lastResult());

function underWay() {
  const jobs = [...store.jobs.values()];
  return jobs.length ? jobs[jobs.length - 1] : null;
}

export function onEvent(what) {
  if (what === "tick") return tick();
  if (what === "result") markVerdict();
  if (what === "job-started") setTimeout(render, PATIENCE);
  if (["job-started", "heartbeat", "breath"].includes(what)) return undefined;
  return render();
}

function markVerdict() {
  performance.clearMarks();
  performance.mark(`verdict ${lastResult()?.result_id}`);
}

function tick() {
  if (chosen && performance.now() - chosenAt > RETURN) return follow();
  const job = underWay();
  if (job && performance.now() - job.since > PATIENCE) return render();
  if (!store.isAway && !job) {
    const result = chosen || lastResult();
    const small = byId("live-band").querySelector(".small");
    if (result && small && !chosen) small.firstChild.nodeValue = ageOf(result);
  }
  return store.isAway ? render() : undefined;
}

export function render() {
  const job = underWay();
  const isWaiting = !chosen && !store.isAway && job && performance.now() - job.since >= PATIENCE;
  const result = chosen || lastResult();
  if (isWaiting) renderJob(job);
  else if (result) renderResult(result);
  else renderNothing();
  renderSide(isWaiting ? null : result);
  renderRejects();
  byId("live").classList.toggle("stale", store.isAway);
  byId("live").classList.toggle("older", Boolean(chosen));
}

function renderNothing() {
  const text = store.isAway ? "Station is away" : "Waiting for the first part";
  byId("live-band").replaceChildren(make("div", { class: "band none" }, sign(""), make("div", { class: "word" }, text)));
  setPictures("none", () => [picture("", "Part", "", null, null, ""), picture("", "Reference", "", null, null, "")]);
}

function renderResult(result) {
  const newest = lastResult();
  let note = "";
  if (store.isAway) note = `station is away: this verdict is from ${ageOf(result)}`;
  else if (chosen) note = `an earlier part, from ${clock(result.created)}${newest && newest.number > result.number ? `; the newest is ${WORDS[newest.decision]}` : ""} · Esc: live`;
  byId("live-band").replaceChildren(band(result, { note }));
  setPictures(`${result.result_id} ${result.photo} ${store.isAway}`, () => pictures(result, { onShown: () => performance.mark(`shown ${result.result_id}`) }));
}

/** What is known of a part before its verdict; drawn so that nobody takes it for one. */
function renderJob(job) {
  const guess = job.verdict ? `looks ${WORDS[job.verdict] || job.verdict} so far` : "no verdict yet";
  byId("live-band").replaceChildren(make("div", { class: "band working" }, sign(""),
    make("div", { class: "word" }, "INSPECTING"),
    make("div", { class: "about" }, make("div", { class: "part-id" }, job.part_id || "no part id"),
      make("div", { class: "provisional" }, `provisional: ${guess}`), make("div", { class: "small" }, `for ${Math.round((performance.now() - job.since) / 1000)} s`))));
  const cells = job.mask?.cells?.length || 0;
  setPictures(`${job.job_id} ${cells}`, () => [
    picture("", "Part", cells ? `provisional: ${cells} cells so far` : "under way", cells ? overlay(job.mask, true) : null, null, "inspecting …"),
    picture("", "Reference", "", null, null, ""),
  ]);
}

function setPictures(key, build) {
  if (shown === key) return;
  shown = key;
  byId("live-pictures").replaceChildren(...build());
}

function renderSide(result) {
  const counters = store.status?.counters || {};
  const decided = (counters.ok || 0) + (counters.nok || 0) + (counters.not_decidable || 0);
  const share = decided ? `${((100 * (counters.ok || 0)) / decided).toFixed(1)} %` : "–";
  byId("live-side").replaceChildren(
    make("div", { class: "panel" }, result ? [scoreBar(result, store.results), reviewButtons(result),
      make("button", { type: "button", class: "wide", on: { click: () => openPart(result) } }, make("span", {}, "Look closer, ask"), make("kbd", {}, "Enter"))]
      : make("p", { class: "quiet" }, "Score and review follow with the verdict.")),
    make("div", { class: "panel counters" }, counter("Yield", share, "big"), counter("OK", counters.ok, "OK"), counter("NOK", counters.nok, "NOK"),
      counter("Undecided", counters.not_decidable, "NOT_DECIDABLE"), counter("Late", counters.late), counter("Missed", (counters.missed || 0) + (counters.refused || 0))),
    make("div", { class: "panel" }, latencyChart(store.results.slice(-100))));
}

const counter = (label, value, kind = "") => make("div", { class: `counter ${kind}` }, make("span", {}, label), make("b", {}, value ?? 0));

/** Seconds from trigger to verdict of the last parts, one bar each. */
function latencyChart(results) {
  const latency = store.status?.latency || {};
  const top = Math.max(0.001, ...results.map((one) => one.total_seconds || 0)) * 1.05;
  const bars = results.map((one, index) => {
    const height = (40 * (one.total_seconds || 0)) / top;
    return draw("rect", { x: index + 100 - results.length, y: 40 - height, width: 0.8, height, "data-decision": one.decision });
  });
  const line = latency.p50 ? [draw("line", { x1: 0, x2: 100, y1: 40 - (40 * latency.p50) / top, y2: 40 - (40 * latency.p50) / top, class: "median" })] : [];
  const text = ["p50", "p99", "max"].filter((key) => latency[key] !== undefined).map((key) => `${key} ${number(latency[key], 3)} s`).join(" · ");
  return make("div", {}, make("h3", {}, "Trigger to verdict, last 100"),
    draw("svg", { class: "chart", viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": text || "no results yet" }, bars, line),
    make("div", { class: "quiet small" }, text || "no results yet"));
}

function renderRejects() {
  const list = store.rejects.slice(0, 16);
  const items = list.map((result) => make("button", { type: "button", class: "reject", "aria-pressed": String(chosen?.result_id === result.result_id),
    title: `${WORDS[result.decision]}: ${result.reason}`, data: { decision: result.decision }, on: { click: () => look(result) } },
  thumbnail(result), sign(result.decision), make("span", { class: "reject-text" }, result.part_id || `#${result.number}`)));
  const strip = byId("live-rejects");
  const key = JSON.stringify([list.map((one) => [one.number, one.photo, one.review]), chosen?.result_id]);
  if (strip.dataset.key === key) return;
  strip.dataset.key = key;
  strip.replaceChildren(make("h3", {}, "Last rejects"), make("div", { class: "strip" }, items.length ? items : make("p", { class: "quiet" }, "none")));
}

export function thumbnail(result) {
  if (!result.photo) return make("span", { class: "thumb" });
  const image = make("img", { class: "thumb", alt: "", loading: "lazy", src: `/api/results/${encodeURIComponent(result.result_id)}/photo?size=240` });
  image.addEventListener("error", () => image.replaceWith(make("span", { class: "thumb" })));
  return image;
}

export function onKey(key) {
  if (isTyping()) return false;
  const result = current();
  if (key === "ArrowLeft" || key === "ArrowRight") return step(key === "ArrowLeft" ? -1 : 1);
  if (key === "Escape") return follow() || true;
  if (!result) return false;
  if (key === "Enter") return openPart(result) || true;
  if (key === "o" || key === "n") return review(result, key === "o" ? "OK" : "NOK") && true;
  return false;
}

function step(by) {
  const list = store.results;
  const at = chosen ? list.findIndex((one) => one.number >= chosen.number) : list.length - 1;
  const next = list[at + by];
  if (next === lastResult()) follow();
  else if (next) look(next);
  return true;
}

