// Elements from data. Text becomes text nodes, so nothing in a transcript or a name can be markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "vars") {
      for (const [property, to] of Object.entries(value)) element.style.setProperty(property, to);
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const MISSING = "–";
const clockText = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
const decimals = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
// "noise@10dB" in the words of the page.
const plainCondition = (text) => text.replace(/([\w.+-]+)@(-?\d+(?:\.\d+)?)dB/g, "$1 at $2 dB");
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const encoderHue = (index) => (index < 0 ? "var(--ink)" : `var(--encoder-${index})`);

// A set of radio buttons that look like one row of buttons. `items` are {value, label, hue, title}.
function segments(legend, name, items, chosen, choose, className = "") {
  const inputs = items.map((item) =>
    make("label", { vars: item.hue ? { "--hue": item.hue } : {}, title: item.title },
      make("input", {
        type: "radio", name, value: item.value, autocomplete: "off", checked: item.value === chosen,
        disabled: item.disabled, on: { change: () => choose(item.value) },
      }),
      make("span", {}, item.hue ? make("i", { class: "dot", "aria-hidden": "true" }) : null, item.label)));
  return make("fieldset", { class: `segments ${className}` }, make("legend", {}, legend), make("div", { class: "options" }, inputs));
}
