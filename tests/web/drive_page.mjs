/**
 * Drive an exported page in Chromium, and print what was seen as JSON.
 *
 * node drive_page.mjs PLAN: a JSON file with `site`, `chromium`, `downloads`, `isolated` and `steps`.
 * A step has one of: `files` or `folder` to predict, `offline`, `axe`, `keyboard`, `repeat`.
 */

import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createGzip } from 'node:zlib';

const plan = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const require = createRequire(path.join(plan.web, 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const WAIT = { timeout: 900_000 };
const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
};

/** A static host that compresses, and counts what it sends. */
const wire = { bytes: 0, requests: 0 };
const server = createServer((request, response) => {
  wire.requests += 1;
  const name = decodeURIComponent(new URL(request.url, 'http://host').pathname);
  const file = path.join(plan.site, name === '/' ? 'index.html' : name);
  if (!existsSync(file) || !statSync(file).isFile()) {
    response.writeHead(404).end();
    return;
  }
  const headers = {
    'Content-Type': TYPES[path.extname(file)] ?? 'application/octet-stream',
    'Content-Encoding': 'gzip',
    'Last-Modified': statSync(file).mtime.toUTCString(),
  };
  if (plan.isolated) {
    headers['Cross-Origin-Opener-Policy'] = 'same-origin';
    headers['Cross-Origin-Embedder-Policy'] = 'require-corp';
  }
  response.writeHead(200, headers);
  const gzip = createGzip();
  gzip.on('data', (part) => (wire.bytes += part.length));
  createReadStream(file).pipe(gzip).pipe(response);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--enable-blink-features=ForceEagerMeasureMemory'],
});
const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
const seen = { foreign: [], errors: [], steps: [] };
context.on('request', (request) => {
  const { protocol } = new URL(request.url());
  if (protocol !== 'blob:' && !request.url().startsWith(`${origin}/`)) seen.foreign.push(request.url());
});
const page = await context.newPage();
page.on('pageerror', (error) => seen.errors.push(String(error)));
page.on('console', (message) => {
  // The runtime logs to the error console; only the page's own violations count.
  if (/Content Security Policy|Refused to/i.test(message.text())) seen.errors.push(message.text());
});

async function open() {
  const start = Date.now();
  await page.goto(`${origin}/`);
  await page.waitForFunction(
    () =>
      document.documentElement.dataset.ready ||
      /could not/.test(document.getElementById('status').textContent),
    null,
    WAIT,
  );
  return {
    ready: await page.evaluate(() => document.documentElement.dataset.ready === 'true'),
    model: await page.textContent('#model'),
    offline: await page.textContent('#offline'),
    milliseconds: Date.now() - start,
  };
}

async function predict(step, number) {
  if (step.folder) await page.setInputFiles('#folder', step.folder);
  else await page.setInputFiles('#files', step.files);
  await page.waitForFunction(
    () => /^Predicted|^No slice|^The prediction failed|^There is no/.test(document.getElementById('status').textContent),
    null,
    WAIT,
  );
  const result = {
    status: await page.textContent('#status'),
    problems: await page.$$eval('#problem-list li', (all) => all.map((one) => one.textContent)),
    decision: null,
    csv: null,
  };
  if (await page.isVisible('#results')) {
    result.decision = await page.textContent('#decision');
    result.csv = path.join(plan.downloads, `${number}.csv`);
    const download = page.waitForEvent('download');
    await page.click('#csv');
    await (await download).saveAs(result.csv);
  }
  return result;
}

/** Count the pixels of the viewer that have a color. */
async function coloredPixels() {
  return page.evaluate(() => {
    const canvas = document.getElementById('canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i] !== data[i + 1]) count += 1;
    return count;
  });
}

async function violations() {
  const found = [];
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [360, 1200]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      // Not addScriptTag, which the page's own policy forbids.
      await page.evaluate(axe);
      const { violations: each } = await page.evaluate(() => window.axe.run());
      found.push(...each.map((one) => `${colorScheme} ${width}: ${one.id}: ${one.nodes[0].html}`));
      const scroll = await page.evaluate(() => document.documentElement.scrollWidth);
      if (scroll > width) found.push(`${colorScheme} ${width}: scrolls to ${scroll}`);
      if (plan.pictures) {
        const file = `${seen.steps.length}-${colorScheme}-${width}.png`;
        await page.screenshot({ path: path.join(plan.pictures, file) });
      }
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1200, height: 900 });
  return found;
}

async function useKeyboard() {
  const texts = [];
  await page.focus('#strip button[aria-current="true"]');
  for (const key of ['Home', 'ArrowRight', 'End']) {
    await page.keyboard.press(key);
    texts.push(await page.textContent('#slice-text'));
  }
  return texts;
}

async function memory() {
  const { bytes } = await page.evaluate(() => performance.measureUserAgentSpecificMemory());
  return bytes;
}

seen.first = await open();
seen.wire = { ...wire };
for (const [number, step] of plan.steps.entries()) {
  if (step.files || step.folder) {
    const before = wire.requests;
    const result = await predict(step, number);
    if (step.overlay) {
      await page.waitForFunction(() => document.getElementById('overlay-text').textContent, null, WAIT);
      result.colored = await coloredPixels();
      await page.uncheck('#overlay');
      result.coloredWithout = await coloredPixels();
      await page.check('#overlay');
    }
    seen.steps.push({ ...result, requests: wire.requests - before });
  } else if (step.offline) {
    await context.setOffline(true);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    seen.steps.push(await open());
  } else if (step.axe) {
    seen.steps.push(await violations());
  } else if (step.keyboard) {
    seen.steps.push(await useKeyboard());
  } else if (step.repeat) {
    const sizes = [];
    for (let i = 0; i < step.repeat; i += 1) {
      await predict({ files: step.scan }, number);
      sizes.push(await memory());
    }
    seen.steps.push(sizes);
  }
}
console.log(JSON.stringify(seen));
await browser.close();
server.close();
