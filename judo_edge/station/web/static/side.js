// Beside the live part: counters, yield, and how long verdicts took.

import { byId, draw, make, put } from "/static/dom.js";
import { number } from "/static/parts.js";
import { lastResult, partResults, store } from "/static/store.js";

export function renderCounters() {
  const counters = store.status?.counters || {};
  const decided = (counters.ok || 0) + (counters.nok || 0) + (counters.not_decidable || 0);
  const share = decided ? `${((100 * (counters.ok || 0)) / decided).toFixed(1)} %` : "–";
  put(byId("live-counters"), JSON.stringify(counters), () => [
    counter("Yield", share),
    counter("OK", counters.ok, "OK"),
    counter("NOK", counters.nok, "NOK"),
    counter("Undecided", counters.not_decidable, "NOT_DECIDABLE"),
    counter("Late", counters.late),
    counter("Missed", (counters.missed || 0) + (counters.refused || 0)),
  ]);
}

const counter = (label, value, kind = "") =>
  make("div", { class: `counter ${kind}` }, make("span", {}, label), make("b", {}, value ?? 0));

/** Seconds from trigger to verdict of the last parts, one bar each. */
export function renderLatency() {
  const results = partResults().slice(-100);
  const latency = store.status?.latency || {};
  put(byId("live-latency"), JSON.stringify([latency, lastResult()?.number]), () =>
    make(
      "div",
      {},
      make("h3", {}, "Trigger to verdict, last 100"),
      latencyChart(results, latency),
      make("div", { class: "quiet small" }, latencyText(latency)),
    ),
  );
}

const latencyText = (latency) =>
  ["p50", "p99", "max"]
    .filter((key) => latency[key] !== undefined)
    .map((key) => `${key} ${number(latency[key], 3)} s`)
    .join(" · ") || "no results yet";

function latencyChart(results, latency) {
  const top = Math.max(0.001, ...results.map((one) => one.total_seconds || 0)) * 1.05;
  const bars = results.map((one, index) => {
    const height = (40 * (one.total_seconds || 0)) / top;
    return draw("rect", {
      x: index + 100 - results.length,
      y: 40 - height,
      width: 0.8,
      height,
      "data-decision": one.decision,
    });
  });
  const y = 40 - (40 * (latency.p50 || 0)) / top;
  const line = latency.p50 ? draw("line", { x1: 0, x2: 100, y1: y, y2: y, class: "median" }) : null;
  return draw(
    "svg",
    {
      class: "chart",
      viewBox: "0 0 100 40",
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": latencyText(latency),
    },
    bars,
    line,
  );
}
