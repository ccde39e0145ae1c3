/** One instruction of classic BPF: code, jump if true, jump if false, operand. */
export type Instruction = readonly [code: number, jt: number, jf: number, k: number];

/** struct seccomp_data. Arguments are the 64 bits that the register holds, two's complement where negative. */
export type SyscallData = { nr: number; arch: number; args: readonly bigint[] };

export type Verdict = 'allow' | 'kill' | { errno: number };

/** Runs a filter as the kernel does, over little-endian data. Throws on whatever the kernel's checker would refuse. */
export function interpret(program: readonly Instruction[], data: SyscallData): Verdict {
  return trace(program, data).verdict;
}

/** The same, with the number of instructions that it took. */
export function trace(
  program: readonly Instruction[],
  data: SyscallData,
): { verdict: Verdict; steps: number } {
  const memory = new DataView(new ArrayBuffer(64));
  memory.setInt32(0, data.nr, true);
  memory.setUint32(4, data.arch, true);
  for (const [index, value] of data.args.entries()) {
    memory.setBigUint64(16 + 8 * index, BigInt.asUintN(64, value), true);
  }
  let accumulator = 0;
  for (let at = 0, steps = 1; at < program.length; at += 1, steps += 1) {
    const [code, jt, jf, k] = program[at] as Instruction;
    switch (code) {
      case 0x20: // BPF_LD | BPF_W | BPF_ABS
        if (k % 4 !== 0) throw new RangeError(`load from ${k} is not aligned`);
        accumulator = memory.getUint32(k, true);
        break;
      case 0x54: // BPF_ALU | BPF_AND | BPF_K
        accumulator = (accumulator & k) >>> 0;
        break;
      case 0x05: // BPF_JMP | BPF_JA
        at += k;
        break;
      case 0x15: // BPF_JMP | BPF_JEQ | BPF_K
        at += accumulator === k ? jt : jf;
        break;
      case 0x25: // BPF_JMP | BPF_JGT | BPF_K
        at += accumulator > k ? jt : jf;
        break;
      case 0x45: // BPF_JMP | BPF_JSET | BPF_K
        at += (accumulator & k) !== 0 ? jt : jf;
        break;
      case 0x06: // BPF_RET | BPF_K
        return { verdict: verdictOf(k), steps };
      default:
        throw new RangeError(`code 0x${code.toString(16)} at ${at}`);
    }
  }
  throw new RangeError('the program ran past its end');
}

function verdictOf(value: number): Verdict {
  if (value === 0x7fff0000) return 'allow';
  if (value === 0x80000000) return 'kill';
  if ((value & 0xffff0000) >>> 0 === 0x00050000) return { errno: value & 0xffff };
  throw new RangeError(`return of 0x${value.toString(16)}`);
}
