import { fail, type ActionFailure, type RequestEvent } from '@sveltejs/kit';
import type { FormState } from '#lib/forms.ts';
import { besideFields } from './beside.ts';
import { Refusal, visitorApi, type Answer, type Api } from './api.ts';

/** What was sent, as text; files are not. */
export class Sent {
  readonly #data: FormData;
  constructor(data: FormData) {
    this.#data = data;
  }
  /** Without the spaces around it; empty when it is not there. */
  text(name: string): string {
    return this.exact(name).trim();
  }
  /** As it was typed: for values. */
  exact(name: string): string {
    const value = this.#data.get(name);
    // A browser sends line ends as CR LF, whatever was typed.
    return typeof value === 'string' ? value.replaceAll('\r\n', '\n') : '';
  }
  has(name: string): boolean {
    return this.#data.has(name);
  }
  all(name: string): string[] {
    return this.#data.getAll(name).filter((value) => typeof value === 'string');
  }
  /** Undefined when nothing was typed, so that it is left out of a body. */
  optional(name: string): string | undefined {
    return this.text(name) || undefined;
  }
  /** What goes back into the form: everything but secrets. */
  echo(): Record<string, string> {
    const kept: Record<string, string> = {};
    for (const [name, value] of this.#data) {
      if (typeof value !== 'string' || name.startsWith('secret')) continue;
      // Of check boxes with one name, all that were checked.
      const before = kept[name];
      kept[name] = before === undefined ? value : `${before} ${value}`;
    }
    return kept;
  }
}

/** What is wrong with one field, found before the API was asked. */
export class FieldError extends Error {
  readonly field: string;
  constructor(field: string, message: string) {
    super(message);
    this.field = field;
  }
}

const signInAgain = 'Open a link of `npx mh-keys sign-in` in another tab, then send this again.';

export type Done = Pick<FormState, 'done' | 'link'>;

/**
 * A form's action: does the work, and turns what was refused into words beside the fields. Redirects pass.
 * @param which form of the page it was.
 * @param names what the API calls a field, and what the form does, where they differ.
 */
export async function act(
  event: RequestEvent,
  which: string | ((sent: Sent) => string),
  work: (sent: Sent, api: Api) => Promise<Done & Record<string, unknown>>,
  names: Readonly<Record<string, string>> = {},
): Promise<(FormState & Record<string, unknown>) | ActionFailure<FormState>> {
  const sent = new Sent(await event.request.formData());
  const form = typeof which === 'string' ? which : which(sent);
  const values = sent.echo();
  try {
    return { form, values: {}, fields: {}, ...(await work(sent, visitorApi(event))) };
  } catch (thrown) {
    if (thrown instanceof FieldError) return fail(400, { form, values, fields: { [thrown.field]: thrown.message } });
    if (!(thrown instanceof Refusal)) throw thrown;
    const { status, detail } = thrown.problem;
    const remedy = status === 401 ? signInAgain : thrown.problem.remedy;
    const beside = besideFields(thrown.problem, (field) => sent.has(field), names);
    return fail(status, {
      form,
      values,
      fields: beside.fields,
      ...(beside.isAll ? {} : { message: detail, ...(remedy === undefined ? {} : { remedy }) }),
    });
  }
}

/** With the rule of two people an act is asked for first: 202, with the approval that it waits for. */
export function unlessWaiting({ status, body }: Answer<unknown>, done: Done): Done {
  const isWaiting = status === 202 && typeof body === 'object' && body !== null && 'approval' in body;
  if (!isWaiting) return done;
  return {
    done: 'A second person has to approve this. Nothing was changed yet.',
    link: { href: '/settings/approvals', text: 'Approvals' },
  };
}

/** A dangerous act asks for a name to be typed back. @throws FieldError */
export function requireTyped(sent: Sent, name: string): void {
  if (sent.text('confirm') !== name.trim()) {
    throw new FieldError('confirm', 'This is not the name. Nothing was changed.');
  }
}

/** @throws FieldError */
export function required(sent: Sent, field: string, message: string): string {
  const value = sent.text(field);
  if (value === '') throw new FieldError(field, message);
  return value;
}
