const LETTERS = 12;
const TEMPLATE_CHARACTERS = 40;

/** A name for a new pod or container. Drawn before it is made, so that a lost answer can be asked for again. */
export function sandboxName(template: string, random: () => number): string {
  const letters = Array.from({ length: LETTERS }, () => Math.floor(random() * 36).toString(36)).join('');
  return `podgate-${template.slice(0, TEMPLATE_CHARACTERS).replace(/-+$/, '')}-${letters}`;
}
