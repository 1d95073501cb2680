/* Run a battery of TestU01 on 32-bit words from standard input: small, crush or big, and "reversed" for the words' bits in reverse
 * order, because TestU01 looks most at the high bits. Build: cc testu01.c -ltestu01 -lprobdist -lmylib -lm */
#include <bbattery.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unif01.h>

static int reversed_bits;

static uint32_t reverse(uint32_t word) {
    uint32_t result = 0;
    for (int bit = 0; bit < 32; bit++)
        result |= (word >> bit & 1) << (31 - bit);
    return result;
}

static unsigned int next(void) {
    static uint32_t words[1 << 16];
    static size_t used, size;
    if (used == size) {
        size = fread(words, sizeof *words, sizeof words / sizeof *words, stdin);
        used = 0;
        if (!size) {
            fputs("standard input ended before the battery did\n", stderr);
            exit(2);
        }
    }
    uint32_t word = words[used++];
    return reversed_bits ? reverse(word) : word;
}

int main(int argc, char **argv) {
    const char *battery = argc > 1 ? argv[1] : "";
    reversed_bits = argc > 2 && !strcmp(argv[2], "reversed");
    unif01_Gen *source = unif01_CreateExternGenBits(reversed_bits ? "words, reversed" : "words", next);
    if (!strcmp(battery, "small"))
        bbattery_SmallCrush(source);
    else if (!strcmp(battery, "crush"))
        bbattery_Crush(source);
    else if (!strcmp(battery, "big"))
        bbattery_BigCrush(source);
    else {
        fputs("usage: testu01 small|crush|big [reversed] < words\n", stderr);
        return 2;
    }
    unif01_DeleteExternGenBits(source);
    return 0;
}
