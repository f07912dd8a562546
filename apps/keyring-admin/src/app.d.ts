declare global {
  namespace App {
    interface Error {
      message: string;
      /** Of the keyring's error, where it was one. */
      code?: string;
      /** Under what the log has the rest. */
      id?: string;
    }
  }
}

export {};
