// The log of one training run, a record a step, as one row of a table of runs.
//
// A training writes its loss as it goes; a law needs where it ended. The last validation loss counts where there is
// one; otherwise the mean training loss of the last twentieth of the records, at least of one. What describes the run
// (n_params, fwd, bwd, …) may stand in any record, the first value counts; tokens and steps are those of the last record.
// A loss that is not a number anywhere in the last twentieth means that the run diverged.

type Row = Readonly<Record<string, unknown>>;

const validation = ['val_loss', 'eval_loss', 'validation_loss'];
const training = ['loss', 'train_loss'];
const sizes = ['n_params', 'n', 'params', 'parameters'];
const progress = new Set(['step', 'tokens', 'd_tokens', 'training_tokens', 'd']);

const present = (value: unknown) => value !== undefined && value !== null && value !== '';
const numberAt = (row: Row, names: readonly string[]) => {
  const name = names.find((n) => present(row[n]));
  return name === undefined ? undefined : Number(row[name]);
};

/** Whether rows are steps of one run: they count them, and do not each say how large the model is. */
export function isStepLog(rows: readonly Row[]): boolean {
  const steps = rows.filter((row) => present(row.step)).map((row) => Number(row.step));
  const isRun = (row: Row) => sizes.some((name) => present(row[name]));
  return steps.length >= 2 && !rows.every(isRun) && steps.every((step, i) => i === 0 || step >= steps[i - 1]!);
}

/** The run as one row with `loss`, `loss_kind`, and `diverged` where it did. */
export function lastOfSteps(rows: readonly Row[]): Record<string, unknown> {
  const run: Record<string, unknown> = {};
  for (const row of rows)
    for (const [name, value] of Object.entries(row)) {
      if (!present(value)) continue;
      if (progress.has(name)) run[name] = value;
      else run[name] ??= value;
    }
  for (const name of [...validation, ...training]) delete run[name];
  const validated = rows.flatMap((row) => {
    const loss = numberAt(row, validation);
    return loss === undefined ? [] : [loss];
  });
  const trained = rows.flatMap((row) => {
    const loss = numberAt(row, training);
    return loss === undefined ? [] : [loss];
  });
  const tail = trained.slice(-Math.max(1, Math.ceil(trained.length / 20)));
  const mean = tail.reduce((a, b) => a + b, 0) / tail.length;
  const last = validated.at(-1);
  run.loss = last ?? mean;
  run.loss_kind = last === undefined ? 'mean training loss of the last records' : 'last validation loss';
  if (!Number.isFinite(last ?? mean)) run.diverged = true;
  return run;
}
