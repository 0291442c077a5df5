/** Markdown to HTML text: what comes out before the sanitiser. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toHtml } from "../src/markdown.js";
import { bytes, isRasterData, safeLink, seconds, sentence, visible } from "../src/text.js";

test("HTML of the model is shown as text", () => {
  for (const text of [
    "<img src=x onerror=alert(1)>",
    "<div>\n\nhi\n</div>",
    "a <b>b</b>",
    "<!-- x -->",
    "<script>x</script>",
  ]) {
    assert.doesNotMatch(toHtml(text), /<(?:img|div|b|script|!)/);
    assert.match(toHtml(text), /&(?:lt|#60);/);
  }
});

test("only http, https and mailto are links", () => {
  assert.match(toHtml("[a](https://example.org/x)"), /<a href="https:\/\/example\.org\/x">a<\/a>/);
  for (const href of [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "/relative",
    "blob:x",
  ]) {
    assert.doesNotMatch(toHtml(`[a](${href})`), /<a /);
  }
});

test("a link with hidden characters is none", () => {
  assert.equal(null, safeLink("https://example.org/\u202e"));
  assert.equal(null, safeLink("java\u0000script:alert(1)"));
});

test("images become marks, never elements that fetch", () => {
  assert.match(toHtml("![a](https://example.org/a.png)"), /<span class="wb-remote-image"/);
  assert.match(toHtml("![a](data:image/png;base64,AAAA)"), /<span class="wb-data-image"/);
  assert.doesNotMatch(toHtml("![a](data:image/svg+xml;base64,AAAA)"), /wb-data-image/);
});

test("only raster types are data images", () => {
  assert.equal(true, isRasterData("data:image/jpeg;base64,/9j="));
  for (const href of [
    "data:image/svg+xml,x",
    "data:text/html;base64,AA",
    'data:image/png;base64,AA" onerror=x',
    "data:image/png,x",
  ]) {
    assert.equal(false, isRasterData(href));
  }
});

test("formulas are found, prices are not", () => {
  assert.equal(2, toHtml("$x+y$ and \\(a\\)").match(/wb-math/g).length);
  assert.doesNotMatch(toHtml("from $5 to $6"), /wb-math/);
  assert.match(toHtml("$$\na\n= b\n$$"), /wb-math wb-display/);
  assert.match(toHtml("\\[ a \\]"), /wb-math wb-display/);
  assert.doesNotMatch(toHtml("`$x$`"), /wb-math/);
});

test("definitions of references change nothing elsewhere", () => {
  assert.doesNotMatch(toHtml("[a]\n\n[a]: https://example.org"), /<a href="[^"]*">a</);
});

test("what is invisible is shown", () => {
  assert.equal("a␇b\ufffdc\ufffd", visible("a\u0007b\u202ec\u2066"));
  assert.equal("tab\tline\n", visible("tab\tline\n"));
  assert.equal("👩‍🚀", visible("👩‍🚀"));
});

test("noise does not hold up the parser", () => {
  const noise = ["_a", "<", "[", "![", "**a", "`a``", "~~a", "$a", ">", "- ", "a@", "www.", "(", "|a", "\\"];
  for (const unit of noise) {
    const start = performance.now();
    toHtml(unit.repeat(Math.floor(12000 / unit.length)));
    assert.ok(performance.now() - start < 500, unit);
  }
});

test("figures are for people", () => {
  assert.deepEqual(["0.00 s", "<0.01 s", "0.42 s", "9.5 s", "12 s", "1 min 0 s", "3 min 0 s", "3 min 5 s"], [0, 0.003, 0.42, 9.5, 12.2, 59.7, 179.8, 185].map(seconds));
  assert.deepEqual(["Model 'x' is gone", "qwen3:8b is gone", "It is so"], ["model 'x' is gone", "qwen3:8b is gone", "It is so"].map(sentence));
  assert.deepEqual(["12 B", "1.2 kB", "3.3 GB", "802 kB"], [12, 1200, 3.3e9, 802000].map(bytes));
});
