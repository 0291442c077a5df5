/** Cutting a growing text into blocks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BlockStream, LONGEST_BLOCK, LONGEST_PLAIN, cut, pieces } from "../src/blocks.js";

const kinds = (text) => cut(text).map((block) => [block.kind, block.text]);

test("paragraphs, headings and code are blocks of their own", () => {
  const text = "One\nline\n\n# Head\nTwo\n```python x\na = 1\n\nb\n```\nThree";
  assert.deepEqual(
    [
      ["markdown", "One\nline"],
      ["markdown", "# Head"],
      ["markdown", "Two"],
      ["code", "a = 1\n\nb\n"],
      ["markdown", "Three"],
    ],
    kinds(text),
  );
});

test("a loose list stays one block", () => {
  assert.deepEqual([["markdown", "- a\n\n- b\n\n  more\n\n1. c"]], kinds("- a\n\n- b\n\n  more\n\n1. c"));
});

test("a paragraph after a list is a block of its own", () => {
  assert.deepEqual(
    [
      ["markdown", "- a"],
      ["markdown", "After"],
    ],
    kinds("- a\n\nAfter"),
  );
});

test("an indented fence in a list belongs to the list", () => {
  assert.equal(1, kinds("1. a\n   ```\n   x\n   ```\n2. b").length);
});

test("code in a list may hold what looks like markdown", () => {
  for (const text of [
    "1. Run this:\n   ```python\n   # load\n\n\n   x = 1\n   ```\n2. Then",
    "- Run:\n  ```sh\n  # a comment\n  ls\n  ```\n- b",
    "- ```sh\n  # a comment\n  ```\n- b",
    "Steps:\n1. Run this:\n    ```python\n    # load\n\n    x = 1\n    ```\n2. Then",
  ])
    assert.deepEqual(
      [
        ["markdown", text],
        ["markdown", "After"],
      ],
      kinds(`${text}\n\nAfter`),
    );
});

test("code in a list ends with its item, and a long one goes on as code", () => {
  assert.deepEqual(
    [
      ["markdown", "- a\n  ```\n  x"],
      ["markdown", "# Head"],
    ],
    kinds("- a\n  ```\n  x\n# Head"),
  );
  const line = "  x = 1  # one\n";
  const blocks = cut(`- a\n  \`\`\`py\n${line.repeat(1200)}  \`\`\`\n- b`);
  assert.deepEqual(["markdown", "code", "markdown"], blocks.map((block) => block.kind));
  assert.equal("py", blocks[1].lang);
  assert.ok(blocks[1].text.startsWith("x = 1"));
  assert.equal("- b", blocks[2].text);
});

test("an open fence is code without its last newline", () => {
  const stream = new BlockStream();
  const tail = stream.update("```js\nlet a\nlet");
  assert.deepEqual([{ kind: "code", text: "let a\nlet", lang: "js", open: true }], tail);
});

test("a fence closes only with its own mark", () => {
  assert.deepEqual(
    [
      ["code", "```\n~~\n"],
      ["markdown", "x"],
    ],
    kinds("~~~~\n```\n~~\n~~~~\nx"),
  );
});

test("a giant line is plain, in pieces that part no pair", () => {
  const line = "😀".repeat(LONGEST_BLOCK);
  const blocks = cut(line);
  assert.ok(blocks.length > 1);
  assert.ok(blocks.every((block) => block.kind === "plain" && block.text.length <= LONGEST_PLAIN + 1));
  assert.ok(blocks.every((block) => block.text.isWellFormed?.() ?? true));
  assert.equal(line, blocks.map((block) => block.text).join(""));
});

test("a long table goes on under its head", () => {
  const rows = Array.from({ length: 2000 }, (_, n) => `| ${n} | value |`);
  const blocks = cut(["| n | v |", "|--|--|", ...rows].join("\n"));
  assert.ok(blocks.length > 1);
  assert.ok(blocks.every((block) => block.text.startsWith("| n | v |\n|--|--|\n")));
});

test("pieces join to the whole", () => {
  const text = "ab😀cd😀".repeat(50);
  for (const size of [1, 2, 3, 7]) assert.equal(text, pieces(text, size).join(""));
});

const LINES = [
  "word",
  "",
  "  ",
  "- item",
  " - item",
  "  more",
  "1. one",
  "```",
  "```py",
  "~~~",
  "# Head",
  "| a | b |",
  "|---|---|",
  "> quote",
  "    code",
  "$$",
  "\\[",
  "---",
  "===",
  "```not`a fence",
  "   ```",
  "***",
  "😀",
  "\t- x",
  "a\r",
];

test("a text in pieces gives the blocks of the whole text", () => {
  let state = 7;
  const random = (below) => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let round = 0; round < 400; round += 1) {
    const text = Array.from({ length: 1 + random(30) }, () => LINES[random(LINES.length)]).join("\n");
    const stream = new BlockStream();
    let frozen = [];
    for (let at = 0; at < text.length; at += 1 + random(6)) {
      stream.update(text.slice(0, at));
      assert.deepEqual(frozen, stream.done.slice(0, frozen.length), "a finished block changed");
      frozen = [...stream.done];
    }
    const tail = stream.update(text, true);
    assert.deepEqual(cut(text), [...stream.done, ...tail], JSON.stringify(text));
  }
});

test("1 MB in one line is cut fast", () => {
  const line = "lorem **ipsum** ".repeat(65536);
  const start = performance.now();
  const stream = new BlockStream();
  for (let at = 0; at <= line.length; at += line.length / 64) stream.update(line.slice(0, at));
  assert.ok(performance.now() - start < 3000);
  assert.equal(
    line,
    cut(line)
      .map((block) => block.text)
      .join(""),
  );
});
