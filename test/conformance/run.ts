/** `npm run conformance [MODULE…]`: CPython's own tests through Podgate, case by case against the interpreter itself. */
import {
  compare,
  conformanceTrouble,
  type Deviation,
  QUICK_MODULES,
  type Report,
  runDirectly,
  runThroughPodgate,
  SLOW_MODULES,
  startConformanceStack,
} from './conformance.ts';

const trouble = conformanceTrouble();
if (trouble !== undefined) {
  console.error(trouble);
  process.exit(1);
}
const asked = process.argv.slice(2);
const modules = asked.length > 0 ? asked : [...QUICK_MODULES, ...SLOW_MODULES];
await using stack = await startConformanceStack();
const unexplained: Deviation[] = [];
for (const module of modules) {
  // Side by side: most of the time they wait, and neither knows of the other.
  const [direct, podgate] = await Promise.all([runDirectly([module]), runThroughPodgate(stack, [module])]);
  const deviations = compare(direct, podgate);
  console.log(line(module, direct, podgate, deviations));
  for (const { test, direct, podgate, explained } of deviations) {
    console.log(
      `  ${test}: ${direct.verdict}, through Podgate ${podgate.verdict}: ${explained?.reason ?? 'UNEXPLAINED'}`,
    );
    if (!explained) console.log(indented(podgate.reason ?? direct.reason ?? ''));
  }
  unexplained.push(...deviations.filter(({ explained }) => !explained));
}
console.log(
  unexplained.length === 0 ? 'Every verdict is the same or explained.' : `${unexplained.length} unexplained.`,
);
process.exitCode = unexplained.length === 0 ? 0 : 1;

function line(module: string, direct: Report, podgate: Report, deviations: readonly Deviation[]): string {
  const seconds = `${direct.seconds[module]} s, through Podgate ${podgate.seconds[module]} s`;
  return `${module}: ${counts(direct)}; ${deviations.length} different; ${seconds}`;
}

function counts({ tests }: Report): string {
  const found = Object.groupBy(Object.values(tests), ({ verdict }) => verdict);
  return Object.entries(found)
    .map(([verdict, of]) => `${of?.length} ${verdict}`)
    .join(', ');
}

function indented(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((each) => `      ${each}`)
    .join('\n');
}
