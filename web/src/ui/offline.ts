/** The service worker, which keeps the page for use without a network. */

const WAIT = 10_000; // ms; then the page goes on without it

/** Register the service worker; return whether it controls the page. */
export async function startOffline(): Promise<boolean> {
  if (!('serviceWorker' in navigator)) return false;
  const { serviceWorker } = navigator;
  try {
    const registration = await serviceWorker.register('./sw.js');
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
    new Promise((resolve) => setTimeout(resolve, WAIT)),
  ]);
  return serviceWorker.controller !== null;
}
