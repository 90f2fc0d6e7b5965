// Data errors: what a kernel does when it meets a number that only the data can make wrong (an id outside a table).
//
// The first report of a run is kept: code (src/backends/data-error-codes.ts), index of the command, the number, and how
// many reports came in all. The kernel goes on with a harmless value; the host throws when the run is over. Behind them:
// whether updates are held (graph/ops/hold-updates.ts), which is no error.

/** u32 words of the error record. */
export const errorWords = 8;

export const reportSource = `
fn report(code: u32, value: i32) {
  if (atomicAdd(&errors[3], 1u) == 0u) {
    atomicStore(&errors[0], code);
    atomicStore(&errors[1], words.command);
    atomicStore(&errors[2], bitcast<u32>(value));
  }
}
fn holdUpdates() { atomicStore(&errors[4], 1u); }
/* True once a kernel of this run has reported or held updates: a step that would change states leaves them alone. */
fn failed() -> bool { return atomicLoad(&errors[3]) != 0u || atomicLoad(&errors[4]) != 0u; }
`;
