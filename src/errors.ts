// Errors that a person can act on.
//
// Every failure that bad input, a bad file or a missing device can cause is a SubbyteError: one sentence
// `op: what was wrong, got X, expected Y; how to fix`, with the same facts as fields so that `--json`, the API and
// the studio show them alike. Programming mistakes stay plain Errors.

/** Who has to act, which is also the exit code: user 1, model 2, device 3, gate 4, interrupted 130. */
export type ErrorKind = 'user' | 'model' | 'device' | 'gate' | 'interrupted';

export interface ErrorDetails {
  /** Stable machine-readable name, for example `safetensors-overlap`. */
  code: string;
  /** The operation that failed: a command, a graph op or a reader. */
  op: string;
  /** What was wrong, without a final full stop. */
  problem: string;
  got?: string | number;
  expected?: string | number;
  /** What the reader should do, as an imperative. */
  fix?: string;
  file?: string;
  tensor?: string;
}

const exitCodes: Record<ErrorKind, number> = { user: 1, model: 2, device: 3, gate: 4, interrupted: 130 };

/** Joins the details into the one sentence that is shown. */
function sentence(d: ErrorDetails): string {
  let text = `${d.op}: ${d.problem}`;
  if (d.got !== undefined) text += `, got ${d.got}`;
  if (d.expected !== undefined) text += `, expected ${d.expected}`;
  const place = [d.tensor && `tensor ${d.tensor}`, d.file && `file ${d.file}`].filter(Boolean).join(', ');
  if (place) text += ` (${place})`;
  if (d.fix) text += `; ${d.fix}`;
  return text;
}

export class SubbyteError extends Error {
  readonly kind: ErrorKind;
  readonly details: ErrorDetails;

  constructor(kind: ErrorKind, details: ErrorDetails, options?: ErrorOptions) {
    super(sentence(details), options);
    this.name = 'SubbyteError';
    this.kind = kind;
    this.details = details;
  }

  get exitCode(): number {
    return exitCodes[this.kind];
  }
}

/** The request itself was wrong: an option, a name, a format that does not exist. */
export const userError = (details: ErrorDetails, options?: ErrorOptions) => new SubbyteError('user', details, options);

/** A model or data file is broken or does not fit the request. */
export const modelError = (details: ErrorDetails, options?: ErrorOptions) =>
  new SubbyteError('model', details, options);

/** Not enough memory, disk or device. */
export const deviceError = (details: ErrorDetails, options?: ErrorOptions) =>
  new SubbyteError('device', details, options);
