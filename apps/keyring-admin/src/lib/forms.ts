/** What a form says after it was sent: what was done, or what is wrong and where, with what was typed. */
export interface FormState {
  /** Which form of the page. */
  readonly form: string;
  readonly values: Readonly<Record<string, string>>;
  /** What is wrong, field by field. */
  readonly fields: Readonly<Record<string, string>>;
  /** What is wrong with the whole. */
  readonly message?: string;
  readonly remedy?: string;
  /** What was done. */
  readonly done?: string;
  /** Where it is to be seen. */
  readonly link?: { readonly href: string; readonly text: string };
}

/** Of the form with that name, if it was that one. */
export function stateOf(form: unknown, name: string): FormState | undefined {
  const state = form as FormState | null | undefined;
  return state?.form === name ? state : undefined;
}
