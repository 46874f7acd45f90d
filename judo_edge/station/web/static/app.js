// The page: sections, what is shown everywhere, keys.

import { button, byId, confirmed, dialog, make, toast } from "/static/dom.js";
import * as live from "/static/live.js";
import { post, signIn } from "/static/net.js";
import { age, isDialogOpen, isEngineer, run, toggleMasks } from "/static/parts.js";
import { challengeChip } from "/static/recipes.js";
import * as references from "/static/references.js";
import * as results from "/static/results.js";
import * as station from "/static/station.js";
import { catchUp, listen, start, store } from "/static/store.js";

const SECTIONS = { live: { show: live.render, hide() {} }, results, references, station };
const NAMES = Object.keys(SECTIONS);
let open = "";

const KEYS = [
  ["← →", "part before, part after (Live)"],
  ["↑ ↓", "through the list (Results)"],
  ["Enter", "look closer, ask"],
  ["O", "say OK"],
  ["N", "say NOK"],
  ["M", "hide or show the mask (or tap the photo)"],
  ["Esc", "back to live, close"],
  ["1 2 3 4", "sections"],
  ["?", "this help"],
];

function route() {
  const wanted = location.hash.slice(1);
  const name = NAMES.includes(wanted) ? wanted : "live";
  if (open && open !== name) SECTIONS[open].hide();
  open = name;
  for (const other of NAMES) {
    byId(other).hidden = other !== name;
    byId(`tab-${other}`).toggleAttribute("aria-current", other === name);
  }
  SECTIONS[name].show();
}

function openPart(result) {
  results.open(result);
  location.hash = "#results";
}

function renderTop() {
  const status = store.status;
  byId("pulse").classList.toggle("is-away", store.isAway);
  renderAway();
  if (!status) return;
  document.title = `${status.station} · ${store.isAway ? "away" : status.state}`;
  byId("station-name").textContent = status.station;
  const recipe = (status.recipes || []).at(-1);
  const challenge = recipe && status.challenge?.[recipe.external_id];
  byId("chips").replaceChildren(
    make(
      "span",
      { class: "chip", data: { state: store.isAway ? "away" : status.state } },
      store.isAway ? "away" : status.state,
    ),
    recipe
      ? make("span", { class: "chip" }, `${recipe.external_id} · ${recipe.internal_id.slice(0, 8)}`)
      : "no recipe is ready",
    challenge && challenge !== "none" ? challengeChip(challenge) : "",
    status.is_simulating ? make("span", { class: "chip", data: { challenge: "pending" } }, "simulating") : "",
  );
  renderConditions(status.conditions || []);
}

function renderAway() {
  byId("away").hidden = !store.isAway;
  if (!store.isAway) return;
  const seconds = (performance.now() - store.heardAt) / 1000;
  byId("away").textContent = store.heardAt
    ? `Station is away. Last heard of it ${age(seconds)}: nothing below is current.`
    : "Station is away. Nothing is known of it yet.";
}

function renderConditions(conditions) {
  const shown = conditions.filter((one) => !one.is_acknowledged || one.severity >= 700);
  const key = JSON.stringify(shown);
  const area = byId("conditions");
  if (area.dataset.key === key) return;
  area.dataset.key = key;
  const press =
    isEngineer() && shown.some((one) => !one.is_acknowledged)
      ? button("Acknowledge", acknowledge, { id: "acknowledge" })
      : null;
  area.replaceChildren(
    ...(shown.length ? [make("ul", { class: "plain" }, shown.map(station.conditionLine)), press ?? ""] : []),
  );
}

async function acknowledge() {
  if (!(await confirmed("Acknowledge all conditions?", "Those whose cause is over disappear.", "Acknowledge"))) return;
  await run(() => post("/api/conditions/confirm", {}));
  await catchUp();
}

function help() {
  const list = make(
    "dl",
    { class: "keys" },
    KEYS.map(([key, text]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, text)]),
  );
  dialog("Keys", [list], [{ label: "Close", value: "", kind: "primary" }]);
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || isDialogOpen()) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const target = event.target;
  if (key === "Enter" && target.closest("button, a, input, select, summary, label")) return;
  if (target.matches("[type=radio]") && key.startsWith("Arrow")) return;
  if (target.matches("input:not([type=radio]):not([type=checkbox]), select, textarea")) {
    if (key === "Escape") target.blur();
    return;
  }
  if (act(key)) event.preventDefault();
}

function act(key) {
  if (key === "?") return help() || true;
  if (/^[1-4]$/.test(key)) return Boolean((location.hash = `#${NAMES[key - 1]}`));
  if (key === "m") return toggleMasks() || true;
  const handled = SECTIONS[open].onKey?.(key);
  if (!handled && key === "Escape") return Boolean((location.hash = "#live"));
  return handled;
}

function onStore(what, data) {
  if (["status", "presence", "tick", "transition"].includes(what)) renderTop();
  if (what === "condition" || what === "transition") catchUp();
  if (open === "live") live.onEvent(what);
  results.onEvent(what, data);
  references.onEvent(what);
  station.onEvent(what);
}

async function begin() {
  store.me = await signIn();
  SECTIONS.live.onKey = live.onKey;
  live.setUp(openPart);
  results.setUp();
  references.setUp();
  byId("help-button").addEventListener("click", help);
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", route);
  listen(onStore);
  renderTop();
  route();
  await start();
}

begin().catch((error) => toast(error.message, { isError: true }));
