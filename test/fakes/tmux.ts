import { execFileSync, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { eventually } from './eventually.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

/** Why no real terminal can be driven here; undefined where it can. */
export function tmuxTrouble(): string | undefined {
  const missing = ['tmux', 'vim'].filter(
    (name) => spawnSync('which', [name], { encoding: 'utf8' }).status !== 0,
  );
  return missing.length > 0 ? `${missing.join(' and ')} not installed` : undefined;
}

/** A terminal emulator of its own, in which a shell runs `podgate`. */
export class Tmux implements Disposable {
  readonly #socket = `podgate-${crypto.randomUUID()}`;

  constructor(env: Record<string, string>, columns = 80, rows = 24) {
    const variables = Object.entries(env).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
    const size = ['-x', String(columns), '-y', String(rows)];
    this.#run('new-session', '-d', ...size, ...variables, 'env', 'PS1=local> ', 'bash', '--norc', '-i');
    this.#run('set-option', '-g', 'window-size', 'manual');
    // What a program says is for the clipboard is kept as a buffer.
    this.#run('set-option', '-s', 'set-clipboard', 'on');
    this.type(`podgate() { '${process.execPath}' '${MAIN}' "$@"; }; clear`, 'Enter');
  }

  /** Keys as tmux names them; anything else is typed. */
  type(...keys: string[]): void {
    this.#run('send-keys', ...keys);
  }

  screen(): string {
    return this.#run('capture-pane', '-p').replace(/ +$/gm, '');
  }

  /** What is in the clipboard; taken out of it. */
  takeClipboard(): string {
    if (this.#run('list-buffers') === '') return '';
    const text = this.#run('show-buffer');
    this.#run('delete-buffer');
    return text;
  }

  /** What the terminal knows of itself, by tmux's names for it. */
  state(format: string): string {
    return this.#run('display-message', '-p', format).trimEnd();
  }

  resize(columns: number, rows: number): void {
    this.#run('resize-window', '-x', String(columns), '-y', String(rows));
  }

  async shows(wanted: string | RegExp): Promise<string> {
    let screen = '';
    await eventually(async () => {
      screen = this.screen();
      return typeof wanted === 'string' ? screen.includes(wanted) : wanted.test(screen);
    }).catch(() => {
      throw new Error(`the screen never showed ${wanted}:\n${screen}`);
    });
    return screen;
  }

  #run(...args: string[]): string {
    return execFileSync('tmux', ['-L', this.#socket, '-f', '/dev/null', ...args], {
      encoding: 'utf8',
      // The tests' own variables are none that a command knows.
      env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PODGATE_'))),
    });
  }

  [Symbol.dispose](): void {
    spawnSync('tmux', ['-L', this.#socket, 'kill-server']);
  }
}
