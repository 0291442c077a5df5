/** Formulas: their source stands until the late module can draw them. */
import { safeMath } from "./sanitize.js";

/**
 * Draw the formulas below an element, now or when the module comes.
 * @param {ParentNode} root
 * @param {import("./late.js").Late} late
 */
export function drawMath(root, late) {
  for (const code of root.querySelectorAll("code.wb-math")) {
    late.when((module) => replace(code, module));
  }
}

function replace(code, module) {
  if (!code.parentNode) return;
  const source = code.textContent;
  const display = code.classList.contains("wb-display");
  try {
    const span = document.createElement("span");
    span.className = display ? "wb-formula wb-display" : "wb-formula";
    span.title = source;
    span.append(safeMath(module.toMathML(source, display), module));
    code.replaceWith(span);
  } catch (error) {
    code.classList.add("wb-math-error");
    code.title = error.message;
  }
}
