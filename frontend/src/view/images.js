/** Images of an answer: never fetched by themselves. */
import { isRasterData, safeLink, visible } from "../text.js";
import { h, icon, textButton } from "./dom.js";

/** Put images that need nobody, and buttons that ask for those that do, in place of the marks. */
export function dressImages(root) {
  for (const mark of root.querySelectorAll("span.wb-data-image")) {
    const source = mark.title;
    if (isRasterData(source)) {
      mark.replaceWith(h("img", { src: source, alt: mark.textContent || "image", class: "wb-image" }));
    }
  }
  for (const mark of root.querySelectorAll("span.wb-remote-image")) {
    const url = safeLink(mark.title);
    if (url) mark.replaceWith(askingImage(url, visible(mark.textContent)));
  }
}

function askingImage(url, name) {
  const host = new URL(url).host;
  const box = h("span", { class: "wb-ask" });
  const first = h(
    "button",
    {
      type: "button",
      class: "wb-ask-link",
      title: url,
      "aria-label": `Image from ${host}`,
      on: { click: () => box.replaceChildren(question(box, first, url, host, name)) },
    },
    icon("image"),
    `${name || "Image"} (on ${host})`,
  );
  box.append(first);
  return box;
}

function question(box, first, url, host, name) {
  const load = () =>
    box.replaceChildren(
      h("img", {
        src: url,
        alt: name || "image",
        class: "wb-image",
        referrerpolicy: "no-referrer",
        crossorigin: "anonymous",
      }),
    );
  return h(
    "span",
    { class: "wb-ask-question", role: "group", "aria-label": `Load the image from ${host}?` },
    `Load it? ${host} will see your address and the time.`,
    h("code", {}, url),
    textButton("Load image", load),
    textButton("Leave it", () => box.replaceChildren(first)),
  );
}
