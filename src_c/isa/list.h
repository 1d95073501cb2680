/* list.h: the instruction sets, the weakest first; the only list of them. The C files, the Makefile and setup.py read it, the last
 * two line by line. A new one is a file beside this one and a row here:
 *
 *     FD_ISA(name, machine, what the processor must have, "what the compiler must be told")
 *
 * name.c is the file. The machine is x86_64, aarch64 or any. What the processor must have is an expression of the functions in
 * drivers/cpu.c. With -fno-tree-ter gcc keeps the interleaving of the source, and spills no product; clang ignores it.
 */
FD_ISA(portable, any, 1, "")
FD_ISA(neon, aarch64, 1, "")
FD_ISA(avx2, x86_64, has_leaf7_ebx(bit_AVX2) && has_leaf1_ecx(bit_F16C) && saves(YMM), "-mavx2 -mf16c -fno-tree-ter")
FD_ISA(avx512, x86_64, has_leaf7_ebx(bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) && saves(ZMM), "-mavx512f -mavx512bw -mavx512dq -mavx512vl")
