const UNITS: Readonly<Record<string, number>> = {
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** `500m`, `4Gi`, `1e3` as a number; NaN for what is no quantity. */
export function parseQuantity(text: string): number {
  const [, number = '', unit = ''] =
    /^([+-]?[\d.]+(?:[eE][+-]?\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$/.exec(text) ?? [];
  return number === '' ? Number.NaN : Number(number) * (UNITS[unit] ?? Number.NaN);
}
