// The section of stored results: a list with filters, and everything about the part that is chosen.

import { button, byId, confirmed, make, put, sign, toast } from "/static/dom.js";
import { thumbnail } from "/static/live.js";
import {
  WORDS,
  askBox,
  band,
  clock,
  isEngineer,
  moment,
  number,
  pictures,
  review,
  reviewButtons,
  scoreBar,
} from "/static/parts.js";
import { get, post, query } from "/static/net.js";
import { store } from "/static/store.js";

const PAGE = 60;
let rows = [];
let limit = PAGE;
let chosen = null;
let isOpen = false;
let timer = 0;
let asked = 0;

export function setUp() {
  byId("results-filters").addEventListener("submit", (event) => event.preventDefault());
  byId("results-filters").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      limit = PAGE;
      load();
    }, 200);
  });
  byId("results-more").addEventListener("click", () => {
    limit = Math.min(1000, limit * 2);
    load();
  });
}

export async function show() {
  isOpen = true;
  await load();
}

export const hide = () => {
  isOpen = false;
};

/** Show one part, whatever the filter says. */
export function open(result) {
  chosen = result;
  renderDetail();
  renderRows();
}

async function load() {
  const number = ++asked;
  const filters = new FormData(byId("results-filters"));
  const which = filters.get("which");
  const values = {
    newest_first: true,
    limit,
    part_id: filters.get("part_id").trim(),
    is_unreviewed: which === "unreviewed",
    decision: which === "unreviewed" ? "" : which,
  };
  try {
    const found = await get(`/api/results?${query(values)}`);
    if (number !== asked) return;
    rows = found;
    if (!chosen && rows.length) [chosen] = rows;
    byId("results-more").hidden = rows.length < limit || limit >= 1000;
    renderRows();
    renderDetail();
  } catch (error) {
    toast(error.message, { isError: true });
  }
}

function renderRows() {
  byId("results-rows").replaceChildren(
    ...rows.map((result) =>
      make(
        "li",
        {
          class: "result-row",
          "aria-current": chosen?.result_id === result.result_id ? "true" : null,
          data: { number: result.number, decision: result.decision },
          on: { click: () => open(result) },
        },
        thumbnail(result),
        sign(result.decision),
        make(
          "span",
          { class: "row-main" },
          make("b", {}, result.part_id || `#${result.number}`),
          make("span", { class: "quiet" }, result.reason),
        ),
        make(
          "span",
          { class: "row-side" },
          make("span", {}, clock(result.created)),
          make("span", { class: `reviewed ${result.review}` }, result.review ? `says ${result.review}` : ""),
        ),
      ),
    ),
  );
  if (!rows.length) byId("results-rows").replaceChildren(make("li", { class: "quiet pad" }, "No result matches."));
}

function renderDetail() {
  const result = chosen;
  const key = result ? `${result.result_id} ${result.photo}` : "";
  put(byId("results-detail"), key, () =>
    result ? detail(result) : make("p", { class: "quiet pad" }, "No result yet."),
  );
}

function detail(result) {
  const enrol =
    isEngineer() && result.photo
      ? button("Enrol this good part as a reference", () => enrolPart(result), { class: "wide" })
      : null;
  return [
    band(result, { note: moment(result.created) }),
    make("div", { class: "pictures" }, pictures(result)),
    make(
      "div",
      { class: "columns" },
      make("div", { class: "panel" }, scoreBar(result, store.results), reviewButtons(result), enrol),
      make("div", { class: "panel" }, make("h3", {}, "Ask"), askBox(result)),
      make("div", { class: "panel facts" }, make("h3", {}, "Facts"), facts(result)),
    ),
  ];
}

function facts(result) {
  const evidence = Object.entries(result.evidence || {}).map(([name, value]) => [name, number(value, 3)]);
  const seconds = Object.entries(result.seconds || {}).map(([name, value]) => [`${name} (s)`, number(value, 3)]);
  const pairs = [
    ["Verdict", WORDS[result.decision]],
    ["JUDO says", WORDS[result.judo] || "–"],
    ["Code", result.code],
    ["Part", result.part],
    ["Measurement", result.meas_id],
    ["Recipe", `${result.external_recipe_id} ${(result.internal_recipe_id || "").slice(0, 8)}`],
    ["Bundle", (result.bundle_digest || "").slice(0, 12)],
    ["Camera", result.camera],
    ["Origin", result.origin],
    ["Trigger to verdict (s)", number(result.total_seconds, 3)],
    ["Reply", result.reply],
    ...evidence,
    ...seconds,
  ];
  return make(
    "dl",
    {},
    pairs
      .filter(([, value]) => String(value ?? "").trim())
      .map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

async function enrolPart(result) {
  const doubt =
    result.decision === "OK" && result.review !== "NOK" ? "" : " The station or a person did not say OK to this part.";
  if (
    !(await confirmed(
      "Enrol this part?",
      `Part ${result.part_id || result.number} becomes a reference of ${result.part}: later parts are compared with it.${doubt}`,
      "Enrol",
    ))
  )
    return;
  try {
    const added = await post("/api/references/from-result", { result_id: result.result_id });
    toast(`Enrolled as reference ${added.reference_id.slice(0, 12)}`);
  } catch (error) {
    toast(error.message, { isError: true });
  }
}

export function onEvent(what, data) {
  if (!isOpen) return;
  if (what === "result") {
    clearTimeout(timer);
    timer = setTimeout(load, 400);
  }
  if (what === "evidence")
    for (const one of rows) if (one.result_id === data.result_id) Object.assign(one, { photo: data.photo || "" });
  if (what === "changed") refresh(data);
}

function refresh(resultId) {
  const known = store.results.find((one) => one.result_id === resultId);
  for (const one of rows)
    if (known && one.result_id === resultId) Object.assign(one, { review: known.review, photo: known.photo });
  if (chosen?.result_id !== resultId) return renderRows();
  if (known) Object.assign(chosen, { review: known.review, photo: known.photo });
  byId("results-detail").querySelector(".reviews")?.replaceWith(reviewButtons(chosen));
  byId("results-detail")
    .querySelector(".band")
    ?.replaceWith(band(chosen, { note: moment(chosen.created) }));
  return renderRows();
}

export function onKey(key) {
  if (["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight"].includes(key))
    return step(key === "ArrowDown" || key === "ArrowRight" ? 1 : -1);
  if (chosen && (key === "o" || key === "n")) return review(chosen, key === "o" ? "OK" : "NOK") && true;
  if (key === "Enter" && chosen) return byId("results-detail").querySelector("input[name=question]").focus() || true;
  return false;
}

function step(by) {
  const at = rows.findIndex((one) => one.result_id === chosen?.result_id);
  const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  if (next) open(next);
  byId("results-rows").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  return true;
}
