/** The service worker, which keeps the page for use without a network. */

const WAIT = 60_000; // ms; then the page goes on without it

/** Register the service worker; return whether it controls the page. */
export async function startOffline(): Promise<boolean> {
  if (!('serviceWorker' in navigator)) return false;
  const { serviceWorker } = navigator;
  let failed: Promise<void>;
  try {
    const registration = await serviceWorker.register('./sw.js');
    failed = redundant(registration.installing ?? registration.waiting);
    if (serviceWorker.controller) return true;
    // With an active one and no control, the user has reloaded without caches.
    if (registration.active) return false;
  } catch {
    return false; // private windows and pages without https have none
  }
  // Waiting saves the second download of the runtime and the model.
  await Promise.race([
    new Promise((resolve) =>
      serviceWorker.addEventListener('controllerchange', resolve, { once: true }),
    ),
    failed,
    new Promise((resolve) => setTimeout(resolve, WAIT)),
  ]);
  return serviceWorker.controller !== null;
}

/** Wait until the installation of a service worker has failed, if it does. */
function redundant(worker: ServiceWorker | null): Promise<void> {
  return new Promise((resolve) =>
    worker?.addEventListener('statechange', () => {
      if (worker.state === 'redundant') resolve();
    }),
  );
}
