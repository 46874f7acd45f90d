// The section of the station itself: state, recipes and their versions, challenge parts, processes, conditions.

import { button, byId, confirmed, dialog, make, put, toast } from "/static/dom.js";
import { get, post } from "/static/net.js";
import { isEngineer, moment, number, run } from "/static/parts.js";
import { recipePanel } from "/static/recipes.js";
import { store } from "/static/store.js";

let isOpen = false;
let recipes = [];

export async function show() {
  isOpen = true;
  await load();
}

export const hide = () => {
  isOpen = false;
};

async function load() {
  try {
    recipes = await get("/api/recipes");
  } catch (error) {
    toast(error.message, { isError: true });
  }
  render();
}

function render() {
  const status = store.status;
  if (!status) return;
  byId("station-panels").classList.toggle("stale", store.isAway);
  put(byId("station-panels"), "panels", () =>
    ["state", "trigger", "you", "processes", "conditions", "recipes"].map((name) =>
      make("div", { id: `panel-${name}`, class: name === "recipes" ? "panel full" : "panel" }),
    ),
  );
  const { state, is_simulating, counters, num_waiting, last_number, latency } = status;
  const fill = (name, key, build) => put(byId(`panel-${name}`), JSON.stringify(key), build);
  fill("state", [state, is_simulating], () => statePanel(status));
  put(byId("state-figures"), JSON.stringify([counters, num_waiting, last_number, latency]), () => figures(status));
  fill("trigger", [], triggerPanel);
  fill("you", [], userPanel);
  fill("recipes", [recipes, status.recipes, status.challenge], () => recipePanel(status, recipes));
  fill("processes", status.processes, () => processPanel(status));
  fill("conditions", status.conditions, () => conditionPanel(status));
}

const panel = (title, ...children) => [make("h2", {}, title), ...children];

function statePanel(status) {
  const act = (label, path, kind, question) => button(label, () => command(label, path, question), { class: kind });
  const buttons = isEngineer()
    ? make(
        "div",
        { class: "row" },
        act("Automatic", "/api/state/automatic", "primary", ""),
        act("Stop", "/api/state/stop", "", ""),
        act("Reset", "/api/state/reset", "", "Waiting parts end without a verdict of the model, recipes are put away."),
        act("Halt", "/api/state/halt", "danger", "Everything stops. Waiting parts end without a verdict of the model."),
        button(
          status.is_simulating ? "Simulating: results are marked" : "Simulate",
          () => run(() => post("/api/simulate", { is_on: !status.is_simulating })),
          { "aria-pressed": String(Boolean(status.is_simulating)) },
        ),
      )
    : null;
  return panel(
    "State",
    make("div", { class: "state-word", data: { state: status.state } }, status.state),
    buttons,
    make("dl", { class: "figures", id: "state-figures" }),
  );
}

function figures(status) {
  const counters = status.counters || {};
  return pairs([
    ["Waiting", status.num_waiting],
    ["Triggers", counters.triggers],
    ["Missed", counters.missed],
    ["Refused", counters.refused],
    ["Late", counters.late],
    ["Last result", status.last_number],
    ["p50", `${number(status.latency?.p50, 3)} s`],
    ["p99", `${number(status.latency?.p99, 3)} s`],
  ]);
}

const pairs = (list) => list.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value ?? 0)]);

function triggerPanel() {
  const part = make("input", {
    type: "text",
    name: "part_id",
    maxlength: 200,
    placeholder: "Part id (may be empty)",
    "aria-label": "Part id",
    autocomplete: "off",
  });
  const submit = (event) => {
    event.preventDefault();
    run(async () => {
      await post("/api/trigger", {
        part_id: part.value.trim(),
        key: crypto.randomUUID?.() || `${Date.now()}-${Math.random()}`,
      });
      part.value = "";
      location.hash = "#live";
    });
  };
  return panel(
    "Trigger by hand",
    make(
      "form",
      { class: "row", id: "trigger-form", on: { submit } },
      part,
      make("button", { class: "primary" }, "Inspect a part"),
    ),
  );
}

function processPanel(status) {
  const rows = (status.processes || []).map(processRow);
  return panel(
    "Processes",
    rows.length ? make("table", {}, make("tbody", {}, rows)) : make("p", { class: "quiet" }, "none told"),
  );
}

function processRow(one) {
  const restarts = one.restarts ? `started again ${one.restarts} ×` : "";
  const about = [restarts, one.detail].filter(Boolean).join(" · ");
  const look = one.role === "camera" ? button("Look", () => lookThrough(one.name)) : null;
  return make(
    "tr",
    {},
    make("td", {}, make("b", {}, one.name), make("span", { class: "small quiet" }, about)),
    make("td", {}, make("span", { class: "chip", data: { process: one.state } }, one.state)),
    make("td", { class: "actions" }, look),
  );
}

/** Show a camera's newest photo, whatever it was taken for. */
function lookThrough(name) {
  const image = make("img", {
    class: "look",
    alt: `Newest photo of ${name}`,
    src: `/api/live/${encodeURIComponent(name)}?at=${Date.now()}`,
  });
  image.addEventListener("error", () =>
    image.replaceWith(make("p", { class: "quiet" }, "The camera has no photo yet.")),
  );
  dialog(`Camera ${name}`, [image], [{ label: "Close", value: "", kind: "primary" }]);
}

function conditionPanel(status) {
  const items = (status.conditions || []).map(conditionLine);
  return panel(
    "Conditions",
    items.length ? make("ul", { class: "plain" }, items) : make("p", { class: "quiet" }, "Nothing is wrong."),
  );
}

export const conditionLine = (one) =>
  make(
    "li",
    {
      class: "condition",
      data: {
        severity: one.severity >= 700 ? "error" : one.severity >= 400 ? "warning" : "information",
        active: Boolean(one.is_active ?? true),
      },
    },
    make("b", {}, one.name),
    ` ${one.text} `,
    make(
      "span",
      { class: "small" },
      one.is_active === false
        ? "over, to be acknowledged"
        : `since ${moment(one.since)}${one.is_acknowledged ? ", acknowledged" : ""}`,
    ),
  );

function userPanel() {
  const out = async () => {
    await post("/logout");
    location.assign("/login");
  };
  return panel(
    "You",
    make("p", { class: "you" }, make("b", {}, store.me.name), `, ${store.me.role}`),
    button("Sign out", () => run(out), { id: "sign-out" }),
  );
}

async function command(label, path, question) {
  if (question && !(await confirmed(`${label} the station?`, question, label, "danger"))) return;
  await run(() => post(path, {}), `${label}: done`);
}

export function onEvent(what) {
  if (!isOpen) return;
  if (what === "recipe-prepared" || what === "references") load();
  else if (["status", "presence", "transition", "condition"].includes(what)) render();
}
