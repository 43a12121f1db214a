// Measures .tflite files in headless Chromium with LiteRT.js, by number of threads.
//
//     node benchmarks/browser.mjs [--rounds 30] MODEL.tflite...
//
// Needs `npm --prefix web ci` and Chromium (CHROMIUM, or /usr/bin/chromium). One line of JSON for
// each file and number of threads: milliseconds to load, and the median, 95th percentile and
// minimum of calls with one slice.
import fs from "node:fs";
import http from "node:http";
import {createRequire} from "node:module";
import os from "node:os";
import path from "node:path";

const modules = path.join(import.meta.dirname, "..", "web", "node_modules");
const {chromium} = createRequire(path.join(modules, "."))("playwright-core");

const files = process.argv.slice(2);
let rounds = 30;
if (files[0] === "--rounds") {
  rounds = Number(files[1]);
  files.splice(0, 2);
}
if (files.length === 0 || !(rounds > 0)) {
  console.error("usage: node benchmarks/browser.mjs [--rounds COUNT] MODEL.tflite...");
  process.exit(2);
}

const PAGE = `<!doctype html><body><script type="importmap">{"imports": {
  "@litertjs/core": "/@litertjs/core/dist/index.js",
  "@litertjs/wasm-utils": "/@litertjs/wasm-utils/dist/index.js"}}</script>
<script type="module">
import * as litert from "@litertjs/core";
window.measure = async (file, threads, rounds) => {
  await litert.loadLiteRt("/@litertjs/core/wasm/", {threads: threads > 1});
  const bytes = new Uint8Array(await (await fetch("/model/" + file)).arrayBuffer());
  const before = performance.now();
  const options = {accelerator: "wasm", cpuOptions: {numThreads: threads}};
  const model = await litert.loadAndCompile(bytes, options);
  const load = performance.now() - before;
  const run = model.signatures.serve_slice ?? model.signatures.serving_default;
  const [{shape, dtype}] = run.getInputDetails();
  const count = shape.reduce((product, side) => product * side, 1);
  const kind = dtype === "uint8" ? Uint8Array : Float32Array;
  const image = litert.Tensor.fromTypedArray(kind.from({length: count}, (_, i) => i % 256),
    Array.from(shape));
  const times = [];
  for (let round = -3; round < rounds; round++) {
    const start = performance.now();
    const outputs = await run.run({image});
    if (round >= 0) times.push(performance.now() - start);
    Object.values(outputs).forEach((tensor) => tensor.delete());
  }
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.min(times.length - 1, Math.floor(share * times.length))];
  return {load, median: at(0.5), p95: at(0.95), minimum: times[0]};
};
window.ready = true;
</script>`;

const TYPES = {".js": "text/javascript", ".wasm": "application/wasm"};
const server = http.createServer((request, response) => {
  const name = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
  const file = name.startsWith("/model/") ? files[Number(name.slice(7))] : path.join(modules, name);
  // Threads need a page that is isolated from other origins.
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  if (name === "/") {
    response.setHeader("Content-Type", "text/html");
    response.end(PAGE);
  } else if (fs.existsSync(file)) {
    response.setHeader("Content-Type", TYPES[path.extname(file)] ?? "application/octet-stream");
    fs.createReadStream(file).pipe(response);
  } else {
    response.statusCode = 404;
    response.end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({executablePath, args: ["--no-sandbox"]});
try {
  for (const [index, file] of files.entries()) {
    for (const threads of new Set([1, 2, os.availableParallelism()])) {
      const page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${server.address().port}/`);
      await page.waitForFunction(() => window.ready);
      const result = await page.evaluate(
        ([number, count, times]) => window.measure(String(number), count, times),
        [index, threads, rounds],
      );
      console.log(JSON.stringify({file: path.basename(file), threads, ...result}));
      await page.close();
    }
  }
} finally {
  await browser.close();
  server.close();
}
