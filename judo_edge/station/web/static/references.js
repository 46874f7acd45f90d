// The section of enrolled good parts: look, enrol, retire.

import { button, byId, confirmed, make, toast } from "/static/dom.js";
import { get, post, query, upload } from "/static/net.js";
import { isEngineer, moment } from "/static/parts.js";

let isOpen = false;

export function setUp() {
  byId("references-part").addEventListener("change", load);
  byId("references-retired").addEventListener("change", load);
  byId("references-file").addEventListener("change", enrol);
}

export async function show() {
  isOpen = true;
  byId("references-upload").hidden = !isEngineer();
  try {
    const parts = [...new Set((await get("/api/recipes")).map((recipe) => recipe.part))];
    const select = byId("references-part");
    const before = select.value;
    select.replaceChildren(...parts.map((part) => make("option", { value: part, selected: part === before }, part)));
    await load();
  } catch (error) {
    toast(error.message, { isError: true });
  }
}

export const hide = () => {
  isOpen = false;
};

async function load() {
  const part = byId("references-part").value;
  if (!part)
    return byId("references-cards").replaceChildren(
      make("p", { class: "quiet" }, "No recipe is known, so there is no part to enrol."),
    );
  try {
    const found = await get(`/api/references?${query({ part })}`);
    const shown = byId("references-retired").checked ? found : found.filter((one) => !one.retired);
    byId("references-state").textContent = `${found.filter((one) => !one.retired).length} in use`;
    return byId("references-cards").replaceChildren(
      ...(shown.length ? shown.map(card) : [make("p", { class: "quiet" }, "None enrolled yet.")]),
    );
  } catch (error) {
    return toast(error.message, { isError: true });
  }
}

function card(reference) {
  const { part, reference_id, source, enrolled, retired } = reference;
  const press = isEngineer() && !retired ? button("Retire", () => retire(reference)) : null;
  return make(
    "article",
    { class: retired ? "card retired" : "card", data: { id: reference_id } },
    make("img", {
      alt: `Reference ${source}`,
      loading: "lazy",
      src: `/api/reference-photo?${query({ part, reference_id, size: 640 })}`,
    }),
    make(
      "div",
      { class: "card-text" },
      make("b", {}, source || reference_id.slice(0, 12)),
      make("span", { class: "quiet" }, retired ? `retired ${moment(retired)}` : `enrolled ${moment(enrolled)}`),
      make("code", {}, reference_id.slice(0, 12)),
    ),
    press,
  );
}

async function enrol() {
  const [file] = byId("references-file").files;
  const part = byId("references-part").value;
  if (!file || !part) return;
  byId("references-state").textContent = "enrolling …";
  try {
    const added = await upload(`/api/references?${query({ part, name: file.name })}`, file);
    toast(`Enrolled ${added.source}`);
  } catch (error) {
    toast(error.message, { isError: true });
  }
  byId("references-file").value = "";
  await load();
}

async function retire(reference) {
  const text = `${reference.source || reference.reference_id} will no longer be compared with. What was judged with it keeps its record.`;
  if (!(await confirmed("Retire this reference?", text, "Retire", "danger"))) return;
  try {
    await post("/api/references/retire", { part: reference.part, reference_id: reference.reference_id });
    toast("Retired");
  } catch (error) {
    toast(error.message, { isError: true });
  }
  await load();
}

export function onEvent(what) {
  if (isOpen && what === "references") load();
}
