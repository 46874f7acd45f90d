// Recipes and their versions: which is ready, how its challenge parts went, and the way back to an earlier one.

import { button, confirmed, make } from "/static/dom.js";
import { post } from "/static/net.js";
import { isEngineer, moment, run } from "/static/parts.js";

export function recipePanel(status, recipes) {
  const rows = recipes.map((recipe) => recipeRow(recipe, status));
  const head = ["Recipe", "Version", "Bundle", "References", "Decision", "Signed by", "Made", "Challenge", ""];
  return [
    make("h2", {}, "Recipes, and earlier versions to go back to"),
    make(
      "div",
      { class: "scroll" },
      make(
        "table",
        {},
        make(
          "thead",
          {},
          make(
            "tr",
            {},
            head.map((text) => make("th", {}, text)),
          ),
        ),
        make("tbody", {}, rows),
      ),
    ),
  ];
}

export const challengeChip = (state) =>
  make(
    "span",
    { class: "chip", data: { challenge: state || "none" } },
    { passed: "challenge passed", failed: "challenge FAILED", pending: "challenge pending" }[state] || "no challenge",
  );

function recipeRow(recipe, status) {
  const isReady = status.recipes?.some((one) => one.internal_id === recipe.internal_id) || false;
  const cells = [
    make("b", {}, recipe.external_id),
    make("code", {}, recipe.internal_id.slice(0, 8)),
    recipe.bundle,
    recipe.reference_ids.length,
    recipe.decision_version ?? "JUDO's words",
    recipe.signer ? recipe.signer.slice(0, 8) : "–",
    moment(recipe.created),
    isReady ? challengeChip(status.challenge?.[recipe.external_id]) : "",
  ];
  return make(
    "tr",
    { class: isReady ? "prepared" : "" },
    cells.map((cell) => make("td", {}, cell)),
    make("td", { class: "actions" }, isEngineer() ? ways(recipe, isReady) : []),
  );
}

function ways(recipe, isReady) {
  const { external_id } = recipe;
  if (!isReady) return [button("Make ready", () => prepare(recipe))];
  return [
    button("Put away", () => run(() => post("/api/recipes/unprepare", { external_id }))),
    button("Challenge now", () =>
      run(() => post("/api/recipes/challenge", { external_id }), "Challenge parts are judged"),
    ),
  ];
}

async function prepare(recipe) {
  const text = `${recipe.external_id}, version ${recipe.internal_id.slice(0, 8)}, will judge the next parts. Challenge parts are judged again first.`;
  if (await confirmed("Make this version ready?", text, "Make ready"))
    await run(
      () => post("/api/recipes/prepare", { external_id: recipe.external_id, internal_id: recipe.internal_id }),
      "Ready",
    );
}
