/** Does the server answer, and does it still know who asks? A page that is left open shows what it last knew, and says so, until it does. */
export const connection = $state({ lost: false, signedOut: false });

/**
 * Asks before anything is loaded anew: SvelteKit would leave the page, and what was typed on it, for the browser's own error page
 * or for the sign-in.
 */
export async function answers(): Promise<boolean> {
  const status = await fetch('/api/session', { cache: 'no-store' }).then(
    (response) => response.status,
    () => 0,
  );
  connection.signedOut = status === 401;
  connection.lost = status === 0 || status >= 500;
  return status === 200;
}
