/* list.h: the only list of instruction sets, the weakest first. The C files, the Makefile and setup.py read it; the last two
 * read it line by line. To add an instruction set, add a file name.c beside this file and one row here:
 *
 *     FD_ISA(name, machine, processor features, "compiler flags")
 *
 * The machine is x86_64, aarch64 or any. The processor features are an expression of the functions in drivers/cpu.c. The flag
 * -fno-tree-ter makes gcc keep the interleaving of the source, so that it spills no product; clang ignores the flag.
 */
FD_ISA(portable, any, 1, "")
FD_ISA(neon, aarch64, 1, "")
FD_ISA(avx2, x86_64, has_leaf7_ebx(bit_AVX2) && has_leaf1_ecx(bit_F16C) && saves(YMM), "-mavx2 -mf16c -fno-tree-ter")
FD_ISA(avx512, x86_64, has_leaf7_ebx(bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) && saves(ZMM), "-mavx512f -mavx512bw -mavx512dq -mavx512vl")
