import type { shapes } from '@meshhook/keyring-http';

declare global {
  namespace App {
    interface Locals {
      /** Who asks, as the API says; undefined where nobody has to be known, or it did not answer. */
      you?: shapes.WhoAmI;
    }
    interface PageData {
      you?: shapes.WhoAmI | undefined;
    }
    interface Error {
      message: string;
      /** Of the keyring's error, where it was one. */
      code?: string;
      /** What the person can do. */
      remedy?: string;
      /** Under what the log has the rest. */
      id?: string;
    }
  }
}

export {};
