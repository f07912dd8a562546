export interface ServerEvent {
  readonly id: string;
  readonly event: string;
  readonly data: unknown;
}

// A listener that reads this much behind is told nothing until it has caught up.
const CHUNKS_BEHIND = 8;

const encoder = new TextEncoder();

/** A stream of server-sent events (WHATWG HTML, section 9.2) to one listener. */
export class EventStream {
  readonly body: ReadableStream<Uint8Array>;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #onClosed: (() => void) | undefined;

  /** `onClosed` is called once, whoever closes it; `retryMs` is how long the listener waits before it comes back. */
  constructor({ retryMs, onClosed }: { readonly retryMs: number; readonly onClosed: () => void }) {
    this.#onClosed = onClosed;
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
          this.#write(`retry: ${String(retryMs)}\n\n`);
        },
        cancel: () => {
          this.#ended();
        },
      },
      { highWaterMark: CHUNKS_BEHIND },
    );
  }

  /** Does it read as fast as it is told? */
  get isReady(): boolean {
    return this.#onClosed !== undefined && (this.#controller.desiredSize ?? 0) > 0;
  }

  send({ id, event, data }: ServerEvent): void {
    // JSON has no line breaks of its own.
    this.#write(`id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** A comment, so that nobody in between takes the connection for dead. */
  beat(): void {
    if (this.isReady) this.#write(':\n\n');
  }

  close(): void {
    if (this.#onClosed === undefined) return;
    this.#controller.close();
    this.#ended();
  }

  #write(text: string): void {
    this.#controller.enqueue(encoder.encode(text));
  }

  #ended(): void {
    const onClosed = this.#onClosed;
    this.#onClosed = undefined;
    onClosed?.();
  }
}
