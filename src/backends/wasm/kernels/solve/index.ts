// Numerics of calibrated weight solving: the inverse Cholesky factor of a Hessian, rounding of weight columns with error
// feedback, and errors as quadratic forms. What the host calls; solver.ts describes the steps.

export { factorLower, invertLower } from './cholesky';
export { roundColumns, settleColumns, updateColumns } from './columns';
export { correctLower } from './correction';
export { clearLastPanel, loadSquare, loadSymmetric, packLower, packTriangle, storeTriangle } from './panels';
export { bilinearRows, packRows } from './quadratic';
