import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { defineConfig, type Plugin } from 'vite';
import packageFile from './package.json' with { type: 'json' };

const require = createRequire(import.meta.url);

/** The runtime in three variants (usual, without relaxed SIMD, with threads), and the decoders. */
const RUNTIME = ['litert_wasm_internal', 'litert_wasm_compat_internal', 'litert_wasm_threaded_internal'];
const DECODERS = [
  '@cornerstonejs/codec-openjpeg/decodewasm',
  '@cornerstonejs/codec-charls/decodewasm',
  '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasm',
];

/** Collect the licenses of the libraries that are in the bundle. */
async function licenses(): Promise<string> {
  const names = Object.keys(packageFile.dependencies).sort();
  const parts = names.map(async (name) => {
    const folder = path.join('node_modules', name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
    const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one));
    const text = file ? await readFile(path.join(folder, file), 'utf8') : '';
    return `${name} ${version} (${license ?? 'see below'})\n\n${text.trim()}\n`;
  });
  return (await Promise.all(parts)).join(`\n${'-'.repeat(80)}\n\n`);
}

/** Copy the WebAssembly files, which the worker fetches when it needs them. */
function copyWasm(): Plugin {
  let target = '';
  return {
    name: 'copy-wasm',
    apply: 'build',
    configResolved(config) {
      target = path.resolve(config.root, config.build.outDir, 'wasm');
    },
    async closeBundle() {
      await mkdir(target, { recursive: true });
      const runtime = path.resolve(path.dirname(require.resolve('@litertjs/core')), '../wasm');
      const files = RUNTIME.flatMap((name) => [`${name}.js`, `${name}.wasm`]);
      await Promise.all([
        ...files.map((name) => copyFile(path.join(runtime, name), path.join(target, name))),
        ...DECODERS.map((name) => {
          const file = require.resolve(name);
          return copyFile(file, path.join(target, path.basename(file)));
        }),
        writeFile(path.resolve(target, '../licenses.txt'), await licenses()),
      ]);
    },
  };
}

export default defineConfig({
  base: './',
  build: {
    outDir: '../hemorrhage_tf/exporters/web_page',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: false,
  },
  worker: { format: 'iife' }, // the runtime needs importScripts, which modules do not have
  plugins: [copyWasm()],
});
