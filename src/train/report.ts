// What a run tells while it goes and when it ends.

/** At the first step, or where a run goes on. */
export interface RunStart {
  /** Updates done before. */
  readonly step: number;
  readonly parameters: number;
  /** Bytes of weights, moments, gradients and everything that a step needs besides, as planned. */
  readonly memoryBytes: number;
  readonly tokensPerStep: number;
  /** Windows of the training text. */
  readonly windows: number;
  /** Measured rate of f32 matrix products, operations a second. */
  readonly matmulRate: number;
}

/** What a step did. */
export interface StepReport {
  readonly step: number;
  /** Mean over the tokens of the step, before its update, in nats. */
  readonly loss: number;
  /** Of the mean gradient, before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokensPerSecond: number;
  /** Operations of the step a second, as a share of the measured rate of f32 matrix products. */
  readonly matmulShare: number;
  /** ‖g‖ over the norm of its rounding noise (noise.ts), in the steps that measure it. */
  readonly noiseRatio?: number;
}

export interface Validation {
  readonly step: number;
  /** Mean negative log-likelihood, in nats. */
  readonly nll: number;
  readonly perplexity: number;
  readonly tokens: number;
}

export interface TrainResult {
  readonly steps: number;
  /** Of the last step; undefined when the run was finished before. */
  readonly loss: number | undefined;
  readonly validation: Validation | undefined;
  /** Of all steps, over all runs. */
  readonly seconds: number;
  readonly memoryBytes: number;
  /** Folder of the finished model. */
  readonly model: string;
  readonly log: string;
}
