import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type Instruction, interpret, trace, type Verdict } from './bpf.ts';

const PYTHON = (process.env.PODGATE_TEST_PYTHONS ?? '/usr/bin/python3').split(':')[0] as string;
const RUNNER = fileURLToPath(new URL('../../agent/runner/', import.meta.url));
const SCRIPT = fileURLToPath(new URL('./seccomp-programs.py', import.meta.url));

type Machine = 'x86_64' | 'aarch64';
type Variant = { machine: Machine; network: boolean; protected: number[]; fresh: boolean };
type Dump = {
  table: Record<Machine, Record<string, number | null>>;
  arch: Record<Machine, number>;
  newest: number;
  programs: Instruction[][];
};

const MACHINES: Machine[] = ['x86_64', 'aarch64'];
const ZYGOTE = 7;
const [EPERM, EACCES, ENOSYS, EAFNOSUPPORT] = [1, 13, 38, 97];
const VARIANTS = MACHINES.flatMap((machine): Variant[] => [
  { machine, network: false, protected: [1, ZYGOTE], fresh: false },
  { machine, network: true, protected: [1, ZYGOTE], fresh: false },
  { machine, network: false, protected: [1], fresh: true },
]);
const dump = python('dump', VARIANTS) as Dump;

/** Numbers that the tables leave out because no rule names them: for calls that must pass. */
const FREE: Record<string, Record<Machine, number>> = {
  read: { x86_64: 0, aarch64: 63 },
  write: { x86_64: 1, aarch64: 64 },
  openat: { x86_64: 257, aarch64: 56 },
  mmap: { x86_64: 9, aarch64: 222 },
  futex: { x86_64: 202, aarch64: 98 },
  execve: { x86_64: 59, aarch64: 221 },
  wait4: { x86_64: 61, aarch64: 260 },
  connect: { x86_64: 42, aarch64: 203 },
  epoll_pwait: { x86_64: 281, aarch64: 22 },
};

/** What may never be called, by errno. Written down apart from the rules: one that goes missing there fails here. */
const NEVER: [errno: number, names: string][] = [
  [
    EPERM,
    `mount umount2 pivot_root setns move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick mount_setattr
    open_by_handle_at quotactl quotactl_fd bpf perf_event_open userfaultfd fanotify_init kexec_load kexec_file_load
    init_module finit_module delete_module create_module query_module get_kernel_syms lookup_dcookie syslog acct swapon
    swapoff reboot vhangup iopl ioperm modify_ldt uselib ustat sysfs _sysctl nfsservctl settimeofday clock_settime
    sethostname setdomainname afs_syscall getpmsg putpmsg security tuxcall vserver add_key request_key keyctl
    pidfd_getfd process_madvise process_mrelease kcmp`,
  ],
  [
    ENOSYS,
    `clone3 io_uring_setup io_uring_enter io_uring_register mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
    mq_getsetattr shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semctl semtimedop memfd_secret`,
  ],
];

describe.each(MACHINES)('the filter of %s', (machine) => {
  const call = (name: string, ...args: (number | bigint)[]) => run('shared', name, args);
  const fresh = (name: string, ...args: (number | bigint)[]) => run('fresh', name, args);
  const networked = (name: string, ...args: (number | bigint)[]) => run('network', name, args);

  function run(kind: 'shared' | 'network' | 'fresh', name: string, args: (number | bigint)[]): Verdict {
    const index = VARIANTS.findIndex(
      (each) =>
        each.machine === machine &&
        each.network === (kind === 'network') &&
        each.fresh === (kind === 'fresh'),
    );
    const nr = dump.table[machine][name] ?? FREE[name]?.[machine];
    if (nr === undefined) throw new Error(`${name} has no number`);
    return interpret(dump.programs[index] as Instruction[], {
      nr,
      arch: dump.arch[machine],
      args: args.map(BigInt),
    });
  }

  test('lets through what no rule names', () => {
    for (const name of Object.keys(FREE)) expect(call(name), name).toBe('allow');
  });

  test('kills a process that comes in by another ABI', () => {
    const foreign = { x86_64: [0x40000003, 0xc00000b7], aarch64: [0x40000028, 0xc000003e] }[machine];
    const program = dump.programs[VARIANTS.findIndex((each) => each.machine === machine)] as Instruction[];
    for (const arch of foreign) expect(interpret(program, { nr: 0, arch, args: [] })).toBe('kill');
  });

  test('knows no call newer than its rules and none of the x32 ABI', () => {
    const program = dump.programs[VARIANTS.findIndex((each) => each.machine === machine)] as Instruction[];
    const at = (nr: number) => interpret(program, { nr, arch: dump.arch[machine], args: [] });
    expect(at(dump.newest)).toBe('allow');
    for (const nr of [dump.newest + 1, 512, 0x40000000, 0x40000029, -1]) {
      expect(at(nr), `${nr}`).toEqual({ errno: ENOSYS });
    }
  });

  test('refuses whole calls with the errno of their row', () => {
    for (const [errno, names] of NEVER) {
      const numbered = names.split(/\s+/).filter((name) => dump.table[machine][name] !== null);
      for (const name of numbered) expect(call(name), name).toEqual({ errno });
    }
  });

  test.each(['socket', 'socketpair'])('opens by %s only AF_UNIX, whatever the upper half says', (name) => {
    expect(call(name, 1)).toBe('allow');
    expect(call(name, (1n << 32n) | 1n)).toBe('allow');
    for (let family = 0; family < 64; family += 1) {
      if (family !== 1) expect(call(name, family), `${family}`).toEqual({ errno: EACCES });
    }
    expect(call(name, (1n << 32n) | 2n)).toEqual({ errno: EACCES });
    expect(call(name, (2n << 32n) | 2n)).toEqual({ errno: EACCES });
  });

  test('with a network opens no family that reaches past it', () => {
    for (const family of [1, 2, 10, 16]) expect(networked('socket', family)).toBe('allow');
    for (const family of [17, 38, 40, (1n << 32n) | 40n]) {
      expect(networked('socket', family), `${family}`).toEqual({ errno: EAFNOSUPPORT });
    }
    expect(networked('kill', ZYGOTE, 9)).toEqual({ errno: EPERM });
    expect(networked('io_uring_setup')).toEqual({ errno: ENOSYS });
  });

  test('says that a limit on cores was set, and lets nobody set one: it may be asked for', () => {
    const done = { errno: 0 };
    expect(call('setrlimit', 4, 0x1000)).toEqual(done);
    expect(call('setrlimit', (5n << 32n) | 4n, 0x1000)).toEqual(done);
    for (const pointer of [0x1000n, 1n << 32n]) expect(call('prlimit64', 0, 4, pointer, 0)).toEqual(done);
    expect(call('prlimit64', 0, 4, 0, 0x1000)).toBe('allow');
    expect(call('prlimit64', 0, 7, 0x1000, 0)).toBe('allow');
    expect(call('setrlimit', 7, 0x1000)).toBe('allow');
  });

  test('shields the protected processes and their groups from kill', () => {
    for (const target of [1, ZYGOTE, -ZYGOTE, -1]) {
      expect(call('kill', target, 9), `${target}`).toEqual({ errno: EPERM });
      expect(call('kill', (5n << 32n) | BigInt.asUintN(32, BigInt(target)), 9)).toEqual({ errno: EPERM });
    }
    for (const target of [0, 2, 6, 8, -2, -8, 4242])
      expect(call('kill', target, 9), `${target}`).toBe('allow');
  });

  test('in a PID namespace of its own lets kill(-1) reach what is its own', () => {
    expect(fresh('kill', -1, 9)).toBe('allow');
    expect(fresh('kill', 1, 9)).toEqual({ errno: EPERM });
    expect(fresh('kill', ZYGOTE, 9)).toBe('allow');
    expect(fresh('pidfd_send_signal', 3, 9)).toBe('allow');
    expect(call('pidfd_send_signal', 3, 9)).toEqual({ errno: ENOSYS });
  });

  test.each([
    'tkill',
    'rt_sigqueueinfo',
    'pidfd_open',
    'prlimit64',
    'sched_setaffinity',
    'sched_setscheduler',
    'sched_setparam',
    'sched_setattr',
    'migrate_pages',
    'move_pages',
    'process_vm_readv',
    'process_vm_writev',
  ])('%s reaches the own and no protected process', (name) => {
    for (const pid of [1, ZYGOTE, (1n << 32n) | 1n])
      expect(call(name, pid), `${pid}`).toEqual({ errno: EPERM });
    for (const pid of [0, 2, 4242]) expect(call(name, pid), `${pid}`).toBe('allow');
    expect(fresh(name, 1)).toEqual({ errno: EPERM });
    expect(fresh(name, ZYGOTE)).toBe('allow');
  });

  test.each(['tgkill', 'rt_tgsigqueueinfo'])('%s is judged by group and by thread', (name) => {
    expect(call(name, ZYGOTE, 4242)).toEqual({ errno: EPERM });
    expect(call(name, 4242, ZYGOTE)).toEqual({ errno: EPERM });
    expect(call(name, 4242, 4243)).toBe('allow');
  });

  test('priorities are set for one process that is not protected', () => {
    for (const [name, one, many] of [
      ['setpriority', 0, [1, 2]],
      ['ioprio_set', 1, [2, 3]],
    ] as const) {
      expect(call(name, one, 0)).toBe('allow');
      expect(call(name, one, ZYGOTE)).toEqual({ errno: EPERM });
      for (const which of many) expect(call(name, which, 0)).toEqual({ errno: EPERM });
    }
  });

  test('no descriptor sends its signals to a protected process', () => {
    const [F_SETFL, F_SETOWN, F_SETOWN_EX] = [4, 8, 15];
    for (const owner of [1, ZYGOTE, -ZYGOTE, -1]) {
      expect(call('fcntl', 3, F_SETOWN, owner), `${owner}`).toEqual({ errno: EPERM });
    }
    expect(call('fcntl', 3, F_SETOWN, 4242)).toBe('allow');
    expect(call('fcntl', 3, F_SETOWN_EX, 0)).toEqual({ errno: EPERM });
    expect(call('fcntl', 3, F_SETFL, ZYGOTE)).toBe('allow');
    for (const request of [0x8901, 0x8902, 0x5412, 0x541c, 0x5423]) {
      expect(call('ioctl', 3, request)).toEqual({ errno: EPERM });
      expect(call('ioctl', 3, (1n << 32n) | BigInt(request))).toEqual({ errno: EPERM });
    }
    expect(call('ioctl', 3, 0x5401)).toBe('allow');
  });

  test('nobody becomes the tracee of the zygote or traces what is protected', () => {
    const [TRACEME, ATTACH, SEIZE] = [0, 16, 0x4206];
    expect(call('ptrace', TRACEME, 0)).toEqual({ errno: EPERM });
    for (const request of [ATTACH, SEIZE]) {
      expect(call('ptrace', request, ZYGOTE)).toEqual({ errno: EPERM });
      expect(call('ptrace', request, 4242)).toBe('allow');
    }
  });

  test('makes processes and threads, but no namespaces and no siblings', () => {
    const [SIGCHLD, THREAD, VFORK] = [17, 0x3d0f00, 0x4111];
    for (const flags of [SIGCHLD, THREAD, VFORK, 0x1200011])
      expect(call('clone', flags), `${flags}`).toBe('allow');
    for (const bit of [
      0x8000, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
    ]) {
      expect(call('clone', bit | SIGCHLD), `${bit}`).toEqual({ errno: EPERM });
      if (bit !== 0x8000) expect(call('unshare', bit), `${bit}`).toEqual({ errno: EPERM });
    }
    expect(call('unshare', 0x80)).toEqual({ errno: EPERM });
    expect(call('unshare', 0x400)).toBe('allow');
    expect(call('clone3')).toEqual({ errno: ENOSYS });
  });

  test('changes its personality only in harmless ways', () => {
    for (const value of [0, 8, 0x20000, 0x40000, 0x60008, 0xffffffff])
      expect(call('personality', value)).toBe('allow');
    for (const value of [0x400000, 0x440000, 1, 6, 0x8000000]) {
      expect(call('personality', value), `${value}`).toEqual({ errno: EPERM });
    }
    expect(call('prctl', 62, 2, ZYGOTE)).toEqual({ errno: EPERM });
    expect(call('prctl', 4, 1)).toBe('allow');
  });

  test('comes to each number in a few steps: the kernel asks for all of them when it is installed', () => {
    for (const [index, program] of dump.programs.entries()) {
      if (VARIANTS[index]?.machine !== machine) continue;
      for (let nr = 0; nr <= dump.newest; nr += 1) {
        const { steps } = trace(program, { nr, arch: dump.arch[machine], args: [] });
        expect(steps, `${nr}`).toBeLessThan(32);
      }
    }
  });

  test('fits the kernel and its jumps', () => {
    for (const program of dump.programs) expect(program.length).toBeLessThanOrEqual(4096);
    const many = python('dump', [
      { machine, network: false, protected: Array.from({ length: 62 }, (_, i) => i + 1), fresh: false },
    ]) as Dump;
    expect(many.programs[0]?.length).toBeLessThanOrEqual(4096);
    for (const [, jt, jf] of many.programs[0] as Instruction[]) expect(Math.max(jt, jf)).toBeLessThan(256);
    expect(() => python('dump', [{ machine, network: false, protected: [0], fresh: false }])).toThrow(
      /positive/,
    );
    expect(() =>
      python('dump', [
        { machine, network: false, protected: Array.from({ length: 63 }, (_, i) => i + 1), fresh: false },
      ]),
    ).toThrow(/more than 62/);
  });
});

const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] as Machine | undefined;

describe('this kernel', () => {
  // Arguments that fail or do nothing where they pass: the calls are made without the filter too.
  const CALLS: [string, number[]][] = [
    ...[0, 1, 2, 10, 16, 17, 40, 2 ** 32 + 2].map((family): [string, number[]] => [
      'socket',
      [family, 3, 255],
    ]),
    ...[1, -1, 4242, 0].map((pid): [string, number[]] => ['kill', [pid, 0]]),
    ['tkill', [1, 0]],
    ['tgkill', [1, 1, 0]],
    ['pidfd_open', [1, 0]],
    ['pidfd_open', [4242, 0]],
    ['prlimit64', [1, 7, 0, 0]],
    ['prlimit64', [0, 7, 0, 0]],
    ['sched_setparam', [1, 0]],
    ['setpriority', [0, 1, 0]],
    ['setpriority', [0, 0, 5]],
    ['setpriority', [1, 0, 5]],
    ['ptrace', [0x4206, 1, 1]],
    ['ptrace', [0x4206, 4242, 1]],
    ['fcntl', [0, 8, 1]],
    ['fcntl', [0, 8, 4242]],
    ['fcntl', [0, 1, 0]],
    ['ioctl', [0, 0x5412, 0]],
    ['ioctl', [0, 0x5401, 0]],
    ['clone3', [0, 0]],
    ['unshare', [0x10000000]],
    ['unshare', [0x400]],
    ['io_uring_setup', [1, 0]],
    ['mount', [0, 0, 0, 0, 0]],
    ['bpf', [99, 0, 0]],
    ['keyctl', [999]],
    ['mq_unlink', [0]],
    ['shmget', [0, 0, 0]],
    ['userfaultfd', [0xffff]],
    ['personality', [0xffffffff]],
    ['personality', [0x400000]],
    ['memfd_secret', [0xff]],
    ['getpid', []],
  ];

  test('judges each call as the interpreter does', (context) => {
    context.skip(process.platform !== 'linux' || machine === undefined, 'no filter for this machine to try');
    const variant = { machine: machine as Machine, network: false, protected: [1], fresh: false };
    const [program] = (python('dump', [variant]) as Dump).programs as [Instruction[]];
    const results = python('try', { calls: CALLS }, true) as [number | null, number | null][];
    let refused = 0;
    for (const [index, [name, args]] of CALLS.entries()) {
      const nr = dump.table[machine as Machine][name] as number;
      const data = { nr, arch: dump.arch[machine as Machine], args: args.map(BigInt) };
      const verdict = interpret(program, data);
      const [free, filtered] = results[index] as [number | null, number | null];
      const words = `${name}(${args.join(', ')}): without ${free}, with ${filtered}`;
      if (verdict === 'allow') expect(filtered, words).toBe(free);
      else expect({ errno: -(filtered ?? 0) }, words).toEqual(verdict);
      if (filtered !== free) refused += 1;
    }
    // Else the filter was not there and everything failed for reasons of its own.
    expect(refused).toBeGreaterThan(15);
  });
});

/** Runs the script; `apart` in a PID namespace of its own and never as root. */
function python(command: 'dump' | 'try', input: unknown, apart = false): unknown {
  const args = ['-I', SCRIPT, RUNNER, command];
  const namespaces = ['--user', '--map-current-user', '--pid', '--fork', '--mount-proc', '--kill-child'];
  const [file, argv] = apart ? ['unshare', [...namespaces, PYTHON, ...args]] : [PYTHON, args];
  const user = apart && process.getuid?.() === 0 ? { uid: 65_531, gid: 65_531 } : {};
  const { status, stdout, stderr } = spawnSync(file as string, argv as string[], {
    input: JSON.stringify(input),
    encoding: 'utf8',
    maxBuffer: 64 * 1_048_576,
    ...user,
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}
