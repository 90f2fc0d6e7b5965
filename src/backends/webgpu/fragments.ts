// The matrices that the subgroups of an adapter multiply: which of them our kernels use.

/** Products of edge × edge matrices by a subgroup of `lanes` threads. */
export interface Fragments {
  readonly edge: 8 | 16;
  readonly lanes: number;
}

/** Integer matrices: edge × depth times depth × edge. */
export interface IntegerFragments extends Fragments {
  readonly depth: number;
}

/** A matrix product that subgroups can do: a [M, K] × b [K, N]. */
export interface SubgroupMatrix {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** What decides of an adapter's traits. */
interface Traits {
  readonly features: ReadonlySet<string>;
  readonly workgroupBytes: number;
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  readonly subgroupMatrices: readonly SubgroupMatrix[];
}

/** Threads of a subgroup, where kernels can rely on it: one size, at most 32. */
function lanesOf({ features, workgroupBytes, subgroupMinSize, subgroupMaxSize }: Traits): number | undefined {
  const has = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'].every((name) => features.has(name));
  const isFixed = subgroupMinSize === subgroupMaxSize && [8, 16, 32].includes(subgroupMinSize);
  return has && isFixed && workgroupBytes >= 32_768 ? subgroupMinSize : undefined;
}

/** f16 → f32 products of the adapter: 16 × 16 × 16 (NVIDIA, AMD) or 8 × 8 × 8 (Apple, lavapipe); undefined where neither. */
export function fragmentsOf(gpu: Traits): Fragments | undefined {
  const lanes = lanesOf(gpu);
  if (lanes === undefined) return undefined;
  const edge = ([16, 8] as const).find(
    (e) =>
      lanes >= e &&
      gpu.subgroupMatrices.some(
        ({ componentType, resultComponentType, M, N, K }) =>
          componentType === 'f16' && resultComponentType === 'f32' && M === e && N === e && K === e,
      ),
  );
  return edge && { edge, lanes };
}

/** i8 → i32 products of the adapter, the deepest of the largest; undefined where there are none. */
export function integerFragmentsOf(gpu: Traits): IntegerFragments | undefined {
  const lanes = lanesOf(gpu);
  if (lanes === undefined) return undefined;
  const [found] = gpu.subgroupMatrices
    .filter(
      ({ componentType, resultComponentType, M, N, K }) =>
        componentType === 'i8' && resultComponentType === 'i32' && M === N && (M === 8 || M === 16) && 64 % K === 0,
    )
    .sort((a, b) => b.M - a.M || b.K - a.K);
  return found && { edge: found.M as 8 | 16, depth: found.K, lanes };
}
