// Runs signatures of a .tflite file in LiteRT.js, for test_litert_js.py.
// node run_litert.mjs CORE MODEL REQUESTS: requests [{signature, inputs: {name: {shape, values}}}],
// answers [{output: values}] on standard output.
import fs from "node:fs";
import {createRequire} from "node:module";
import path from "node:path";
import {pathToFileURL} from "node:url";
import vm from "node:vm";

const [core, file, requests] = process.argv.slice(2);
const {loadLiteRt, loadAndCompile, Tensor} = await import(
  pathToFileURL(path.join(core, "dist", "index.js"))
);

// The package expects a worker of a browser. Node before 22 has no relaxed SIMD, which the
// compatible build does without.
const loader = path.join(core, "wasm", "litert_wasm_compat_internal.js");
globalThis.self = globalThis;
globalThis.require = createRequire(import.meta.url);
globalThis.__filename = loader;
globalThis.__dirname = path.dirname(loader);
globalThis.importScripts = (url) => vm.runInThisContext(fs.readFileSync(url, "utf8"));
globalThis.Module = {wasmBinary: fs.readFileSync(loader.replace(/\.js$/, ".wasm"))};
await loadLiteRt(loader);

const model = await loadAndCompile(new Uint8Array(fs.readFileSync(file)), {accelerator: "wasm"});
const answers = [];
for (const {signature, inputs} of JSON.parse(fs.readFileSync(requests, "utf8"))) {
  const tensors = Object.fromEntries(
    Object.entries(inputs).map(([name, {shape, values}]) => [
      name,
      new Tensor(Float32Array.from(values), shape),
    ]),
  );
  const outputs = await model.run(signature, tensors);
  answers.push(
    Object.fromEntries(
      Object.entries(outputs).map(([name, tensor]) => [name, [...tensor.toTypedArray()]]),
    ),
  );
}
fs.writeFileSync(1, JSON.stringify(answers));
process.exit(0);
