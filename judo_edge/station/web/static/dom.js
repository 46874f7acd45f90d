// Builds elements. Text becomes text nodes only, so that no name, reply or reason can become markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Make an element; `on` holds listeners, `data` the dataset, other keys are attributes (false and null leave one out). */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Make an element of SVG. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, { on = {}, data = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  Object.assign(element.dataset, data);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map(asNode),
  );
  return element;
}

export const button = (label, click, attributes = {}) =>
  make("button", { type: "button", ...attributes, on: { click } }, label);

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

const keys = new WeakMap();

/** Fill an element unless it shows the same already, so that what somebody is about to press stays in its place. */
export function put(element, key, build) {
  if (keys.get(element) === key) return false;
  keys.set(element, key);
  element.replaceChildren(...[build()].flat(Infinity).filter(Boolean));
  return true;
}

export const sign = (decision) =>
  draw("svg", { class: "sign", "aria-hidden": "true" }, draw("use", { href: `#sign-${decision || "NONE"}` }));

/** Say something for a moment; `action` is {label, run}. */
export function toast(text, { isError = false, action = null } = {}) {
  const button =
    action &&
    make(
      "button",
      {
        type: "button",
        on: {
          click: () => {
            item.remove();
            action.run();
          },
        },
      },
      action.label,
    );
  const item = make("div", { class: isError ? "toast error" : "toast" }, make("span", {}, text), button);
  byId("toasts").append(item);
  while (byId("toasts").children.length > 4) byId("toasts").firstChild.remove();
  setTimeout(() => item.remove(), isError ? 12000 : 7000);
}

/** Show a dialog with the given children and buttons [{label, value, kind}]; resolves to the value, "" when closed. */
export function dialog(title, children, buttons) {
  const box = byId("dialog");
  if (box.open) box.close("");
  return new Promise((resolve) => {
    box.returnValue = "";
    box.onclose = () => resolve(box.returnValue);
    const row = buttons.map(({ label, value, kind = "" }) =>
      make("button", { type: "button", class: kind, on: { click: () => box.close(value) } }, label),
    );
    box.replaceChildren(make("h2", {}, title), ...children, make("div", { class: "row end" }, row));
    box.showModal();
  });
}

export const confirmed = async (title, text, label, kind = "primary") =>
  (await dialog(
    title,
    [make("p", {}, text)],
    [
      { label: "Cancel", value: "" },
      { label, value: "yes", kind },
    ],
  )) === "yes";
