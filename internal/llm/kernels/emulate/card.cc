// A program that is a card, over standard input and output; emulate.h computes.
// A command is a line, and data after it:
//
//	take BYTES                                       -> ADDRESS
//	give ADDRESS
//	write ADDRESS BYTES, then the data
//	read ADDRESS BYTES                               -> the data
//	launch NAME X Y THREADS SHARED COUNT CELL...     -> ok
#define CLUSTERFLOW_EMULATE
#include "../kernels.cu"
#include "../hopper.cu"

#include <map>
#include <string>
#include <tuple>
#include <utility>

// argument takes a kernel's argument from its cell of eight bytes.
template <typename A> static A argument(const uint64_t &cell) {
    A a;
    memcpy((void *)&a, &cell, sizeof a);
    return a;
}

template <typename... A, size_t... I>
static std::function<void()> bound(void (*kernel)(A...), const std::vector<uint64_t> &cells, std::index_sequence<I...>) {
    return [=] { kernel(argument<A>(cells[I])...); };
}

typedef std::function<void(int, int, int, int, const std::vector<uint64_t> &)> Launch;
static std::map<std::string, Launch> kernels;

template <typename... A> static void add(const char *name, void (*kernel)(A...), int together = 1) {
    kernels[name] = [=](int x, int y, int threads, int shared, const std::vector<uint64_t> &cells) {
        if (cells.size() != sizeof...(A)) {
            fprintf(stderr, "%s takes %zu arguments, not %zu\n", name, sizeof...(A), cells.size());
            abort();
        }
        emulate(x, y, threads, shared, together, bound(kernel, cells, std::index_sequence_for<A...>()));
    };
}
#define ADD(name) add(#name, name)
#define ADD_PAIRS(name) add(#name, name, 2)
#define ADD_ROWS(T) ADD(rms_norm_##T), ADD(rotate_##T), ADD(swiglu_##T), ADD(embed_##T), \
    ADD(convert_bf16_##T), ADD(convert_f16_##T), ADD(convert_float_##T)

int main() {
    ADD_ROWS(bf16), ADD_ROWS(f16), ADD_ROWS(float);
    ADD(gemm_bf16_32), ADD(gemm_bf16_64), ADD(gemm_f16_32), ADD(gemm_f16_64), ADD(gemm_float), ADD(add_bias), ADD(mean_rows);
    ADD(attention_bf16_64), ADD(attention_bf16_128), ADD(attention_bf16_256);
    ADD(attention_float_64), ADD(attention_float_128), ADD(attention_float_256);
    ADD(attention_f16_64), ADD(attention_f16_128), ADD(attention_f16_256);
    ADD(quantise_weights_bf16), ADD(quantise_weights_f16), ADD(quantise_weights_float), ADD(quantise_rows);
    ADD(mark_outliers), ADD(list_outliers), ADD(gemm_int8_32), ADD(gemm_int8_64), ADD(add_outliers);
    ADD_PAIRS(product_bf16), ADD_PAIRS(product_f16), ADD_PAIRS(gated_product_bf16), ADD_PAIRS(gated_product_f16), ADD_PAIRS(turned_product_bf16), ADD_PAIRS(turned_product_f16);
    ADD(hopper_attention_bf16), ADD(hopper_attention_f16);
    char command[16], name[64];
    unsigned long long address, bytes;
    while (scanf("%15s", command) == 1) {
        if (!strcmp(command, "take") && scanf("%llu", &bytes) == 1) {
            void *p = aligned_alloc(256, (bytes + 255) / 256 * 256 + 256);
            memset(p, 0xff, bytes); // not a number, until something is written
            printf("%llu\n", (unsigned long long)(uintptr_t)p);
        } else if (!strcmp(command, "give") && scanf("%llu", &address) == 1) {
            free((void *)(uintptr_t)address);
            continue;
        } else if (!strcmp(command, "write") && scanf("%llu %llu", &address, &bytes) == 2) {
            getchar(); // the end of the line
            if (fread((void *)(uintptr_t)address, 1, bytes, stdin) != bytes) return 1;
            continue;
        } else if (!strcmp(command, "read") && scanf("%llu %llu", &address, &bytes) == 2) {
            fwrite((void *)(uintptr_t)address, 1, bytes, stdout);
        } else if (!strcmp(command, "launch")) {
            int x, y, threads, shared, count;
            if (scanf("%63s %d %d %d %d %d", name, &x, &y, &threads, &shared, &count) != 6) return 1;
            std::vector<uint64_t> cells(count);
            for (auto &c : cells) {
                unsigned long long v;
                if (scanf("%llu", &v) != 1) return 1;
                c = v;
            }
            auto kernel = kernels.find(name);
            if (kernel == kernels.end()) {
                fprintf(stderr, "there is no kernel %s\n", name);
                return 1;
            }
            kernel->second(x, y, threads, shared, cells);
            printf("ok\n");
        } else {
            fprintf(stderr, "unknown command %s\n", command);
            return 1;
        }
        fflush(stdout);
    }
}
