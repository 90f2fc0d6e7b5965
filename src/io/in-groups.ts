/** `open` for every item, a few at once; results in the order of the items. */
export async function inGroups<From, To>(
  items: readonly From[],
  atOnce: number,
  open: (item: From) => Promise<To>,
): Promise<To[]> {
  const results: To[] = [];
  for (let i = 0; i < items.length; i += atOnce)
    results.push(...(await Promise.all(items.slice(i, i + atOnce).map(open))));
  return results;
}
