/** Figures in the colours of the page, and news of a change of theme. */

const AXIS = /^[xy]axis\d*$/;
const NARROW = 420;

/** The colours a panel has now. */
function colours(root) {
  const style = getComputedStyle(root);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    fg: value("--wb-fg"),
    fg2: value("--wb-fg2"),
    line: value("--wb-line"),
    bg: value("--wb-bg1"),
    font: value("--wb-font"),
  };
}

/**
 * Return a figure's layout as it is drawn here: its title stands above it as a heading.
 * @param {object} layout
 * @param {HTMLElement} root
 * @param {number} width
 */
export function themed(layout, root, width) {
  const { fg, fg2, line, bg, font } = colours(root);
  const made = { ...layout, title: undefined, width, autosize: false };
  made.margin = { ...layout.margin, t: 40, r: 14 };
  made.font = { ...layout.font, color: fg2, family: font };
  made.legend = { ...layout.legend, font: { color: fg } };
  made.hoverlabel = { ...layout.hoverlabel, bgcolor: bg, bordercolor: line, font: { color: fg, family: font } };
  made.annotations = layout.annotations?.map((note) => (note.yshift ? { ...note, yshift: 36 } : note));
  for (const name of Object.keys(layout)) {
    if (AXIS.test(name)) made[name] = { ...layout[name], gridcolor: line, linecolor: line, tickcolor: line };
    // On a telephone a few upright dates are read, many turned ones are not.
    if (AXIS.test(name) && layout[name].type === "date" && width < NARROW) Object.assign(made[name], { nticks: 4, tickangle: 0 });
    if (AXIS.test(name) && layout[name].title) made[name].title = { ...layout[name].title, font: { size: 11.5 }, standoff: 8 };
  }
  return made;
}

/**
 * Call back when the theme of the page has changed.
 * @param {() => void} changed
 * @returns {() => void} Ends it.
 */
export function onTheme(changed) {
  let timer = null;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(changed, 60);
  };
  const observer = new MutationObserver(soon);
  const attributes = { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-name", "data-jp-theme-light"] };
  observer.observe(document.body, attributes);
  observer.observe(document.documentElement, attributes);
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", soon);
  return () => {
    clearTimeout(timer);
    observer.disconnect();
    system.removeEventListener("change", soon);
  };
}
