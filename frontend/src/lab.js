/** What a view asks of JupyterLab, by events; the workbench's extension listens where it is active. */

/** Whether the extension is there. */
export function inLab() {
  return Boolean(window.workbenchLab);
}

/**
 * Ask the extension for something.
 * @param {HTMLElement} el The view; the notebook is found by it.
 * @param {"insert"|"stop"|"keep"|"open"|"notify"} what
 * @param {object} detail
 * @returns {boolean} Whether it did it.
 */
export function askLab(el, what, detail) {
  if (!inLab()) return false;
  const event = new CustomEvent(`workbench:${what}`, {
    detail,
    bubbles: true,
    composed: true,
    cancelable: true,
  });
  return !el.dispatchEvent(event);
}
