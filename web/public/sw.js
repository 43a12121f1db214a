/*
 * The service worker: it keeps every file of the page, so that the page works offline.
 *
 * `files.js` is written by the export: VERSION, a hash over all files, and FILES, those to keep at
 * once. The variant of the runtime that the browser needs is kept when the page asks for it.
 */
importScripts('./files.js');

const CACHE = `hemorrhage-tf ${self.registration.scope} ${self.VERSION}`;

self.addEventListener('install', (event) => {
  // `reload`: a new version must not be put together from files of the browser's own cache.
  const requests = self.FILES.map((path) => new Request(path, { cache: 'reload' }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

self.addEventListener('activate', (event) => {
  const removeOld = async () => {
    const scope = `hemorrhage-tf ${self.registration.scope} `;
    for (const name of await caches.keys()) {
      if (name.startsWith(scope) && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  };
  event.waitUntil(removeOld());
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  const isPage = request.mode === 'navigate';
  const kept = await cache.match(isPage ? './index.html' : request, { ignoreSearch: true });
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok && request.url.startsWith(self.registration.scope)) {
    await cache.put(request, response.clone());
  }
  return response;
}
