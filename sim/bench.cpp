// The compiled bench: frames into the Verilated lutloom_core and its outputs compared, as fast as the model runs.
//
// Called by lutloom.sim.compiled with key=value arguments, in the build folder (the memories read rom/*.hex there).
// Standard output, one record a line:
//   progress FRAMES DIFFER CYCLES                 now and then
//   value FRAME BEAT VALUE GOT EXPECTED           a value that differs (VALUE = width: the bits above the values)
//   last FRAME BEAT GOT                           TLAST of an output beat is wrong
//   fault TEXT                                    a rule of the stream is broken, or the core hangs
//   done FRAMES DIFFER CYCLES SECONDS             the end
// Exit code 0 whatever was found; 2 for wrong arguments or files.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "Vcore.h"
#include "verilated.h"

using u64 = uint64_t;

namespace {

// A port of any width as bytes, the lowest first. Verilator has an unsigned integer up to 64 bits, VlWide beyond.
template <class T> void put(T& port, const uint8_t* bytes, size_t count) {
    T value = 0;
    memcpy(&value, bytes, count);
    port = value;
}
template <size_t N> void put(VlWide<N>& port, const uint8_t* bytes, size_t count) {
    port.at(N - 1) = 0;
    memcpy(port.data(), bytes, count);
}
template <class T> const uint8_t* bytes_of(const T& port) { return reinterpret_cast<const uint8_t*>(&port); }
template <size_t N> const uint8_t* bytes_of(const VlWide<N>& port) {
    return reinterpret_cast<const uint8_t*>(port.data());
}

[[noreturn]] void usage(const std::string& text) {
    fprintf(stderr, "%s\n", text.c_str());
    exit(2);
}

struct Options {
    std::unordered_map<std::string, std::string> pairs;
    Options(int argc, char** argv) {
        for (int i = 1; i < argc; ++i) {
            const char* equals = strchr(argv[i], '=');
            if (!equals) usage(std::string("argument must be key=value, not ") + argv[i]);
            pairs[std::string(argv[i], equals - argv[i])] = equals + 1;
        }
    }
    std::string text(const char* key) const {
        auto found = pairs.find(key);
        if (found == pairs.end()) usage(std::string("missing argument ") + key);
        return found->second;
    }
    u64 number(const char* key) const { return strtoull(text(key).c_str(), nullptr, 10); }
};

// A file of packed beats, mapped.
struct Beats {
    const uint8_t* data = nullptr;
    size_t beats, bytes;  // of a frame, of a beat
    Beats(const std::string& path, size_t frames, size_t beats, size_t bytes) : beats(beats), bytes(bytes) {
        const int file = open(path.c_str(), O_RDONLY);
        struct stat info;
        if (file < 0 || fstat(file, &info) != 0) usage("cannot read " + path);
        const size_t size = frames * beats * bytes;
        if (static_cast<size_t>(info.st_size) < size) usage(path + " is too short");
        void* map = size ? mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0) : nullptr;
        if (map == MAP_FAILED) usage("cannot map " + path);
        data = static_cast<const uint8_t*>(map);
        close(file);
    }
    const uint8_t* at(u64 frame, u64 beat) const { return data + (frame * beats + beat) * bytes; }
};

// xorshift64*: true with the probability that was given.
struct Chance {
    u64 state, limit;
    Chance(u64 seed, u64 limit) : state(seed * 0x9e3779b97f4a7c15ull | 1), limit(limit) {
        for (int i = 0; i < 8; ++i) hit();
    }
    bool hit() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return (state * 0x2545f4914f6cdd1dull) >> 32 < limit;  // limit = probability * 2**32
    }
};

u64 bits_of(const uint8_t* bytes, size_t from, size_t count) {
    u64 value = 0;
    for (size_t i = 0; i < count; ++i) value |= u64(bytes[(from + i) / 8] >> ((from + i) % 8) & 1) << i;
    return value;
}

struct Bench {
    const Options& options;
    VerilatedContext context;
    std::unique_ptr<Vcore> core;
    const u64 first, frames, pool;       // first frame, number of frames to receive, frames in the files
    const u64 alone, overrun;            // frame by itself first; the source goes on until the last output
    const u64 limit, drain, reports, record;
    const size_t in_beats, in_bytes, out_beats, out_bytes, width, bits;
    const Beats input, output;
    Chance source_stalls, sink_stalls;
    u64 cycle = 0;
    u64 in_frame = 0, in_beat = 0, out_frame = 0, out_beat = 0;
    u64 in_limit = 0;                    // frames that the source may begin
    bool offer = false, held = false, first_differs = false, faulty = false, twist = false;
    u64 differ = 0, reported = 0, waiting = 0, first_input = 0;
    bool began = false;
    std::vector<uint8_t> hold;
    bool hold_last = false;
    std::vector<u64> ends, in_cycles, out_cycles;  // cycle of each frame's last beat; of each beat of the first frames
    std::chrono::steady_clock::time_point start, shown;

    explicit Bench(const Options& o)
        : options(o), first(o.number("first")), frames(o.number("frames")), pool(o.number("pool")),
          alone(o.number("alone")), overrun(o.number("overrun")), limit(o.number("limit")), drain(o.number("drain")),
          reports(o.number("reports")), record(o.number("record")), in_beats(o.number("in_beats")),
          in_bytes(o.number("in_bytes")), out_beats(o.number("out_beats")), out_bytes(o.number("out_bytes")),
          width(o.number("width")), bits(o.number("bits")), input(o.text("input"), pool, in_beats, in_bytes),
          output(o.text("expected"), pool, out_beats, out_bytes), source_stalls(o.number("seed"), o.number("stalls")),
          sink_stalls(o.number("seed") + 1, o.number("stalls")), hold(out_bytes) {
        context.randReset(2);  // what is read before it is written differs with every seed
        context.randSeed(static_cast<int>(o.number("seed") & 0x3fffffff) + 1);
        context.fatalOnError(false);
        core.reset(new Vcore(&context, "core"));
        if (sizeof(core->s_axis_tdata) < in_bytes || sizeof(core->m_axis_tdata) < out_bytes)
            usage("tdata is narrower than the plan says");
        ends.reserve(frames);
        in_cycles.reserve(record * in_beats);
        out_cycles.reserve(record * out_beats);
        start = shown = std::chrono::steady_clock::now();
    }

    u64 frame_index(u64 frame) const { return (first + frame) % pool; }

    void edge() {
        core->clk = 1;
        core->eval();
        core->clk = 0;
        ++cycle;
    }

    void idle(u64 cycles) {
        core->s_axis_tvalid = 0;
        core->m_axis_tready = 0;
        for (u64 i = 0; i < cycles; ++i) {
            core->eval();
            edge();
        }
    }

    void reset() {
        core->clk = 0;
        core->clear = 0;
        core->s_axis_tlast = 0;
        std::vector<uint8_t> zeros(in_bytes);
        put(core->s_axis_tdata, zeros.data(), in_bytes);
        core->rst = 1;
        idle(4);
        core->rst = 0;
        restart();
    }

    void restart() {
        cycle = in_frame = in_beat = out_frame = out_beat = waiting = 0;
        offer = held = first_differs = began = false;
        ends.clear();
        in_cycles.clear();
        out_cycles.clear();
    }

    void fault(const std::string& text) {
        printf("fault %s\n", text.c_str());
        faulty = true;
    }

    std::string place() const {
        const std::string at = "output frame " + std::to_string(frame_index(out_frame)) + ", beat "
            + std::to_string(out_beat) + " of " + std::to_string(out_beats);
        return at + " (input at frame " + std::to_string(frame_index(in_frame)) + ", beat " + std::to_string(in_beat)
            + " of " + std::to_string(in_beats) + ", cycle " + std::to_string(cycle) + ")";
    }

    // One output beat, compared. Only a beat that differs is looked at value by value.
    void receive(bool compare) {
        const bool expected_last = out_beat == out_beats - 1;
        if (compare) {
            const uint8_t* got = bytes_of(core->m_axis_tdata);
            const uint8_t* expected = output.at(frame_index(out_frame), out_beat);
            if (memcmp(got, expected, out_bytes) != 0) describe(got, expected);
            if (bool(core->m_axis_tlast) != expected_last) {
                if (reported++ < reports)
                    printf("last %" PRIu64 " %" PRIu64 " %d\n", frame_index(out_frame), out_beat,
                           int(core->m_axis_tlast));
                first_differs = true;
            }
            if (out_frame < record) out_cycles.push_back(cycle);
        }
        if (expected_last) {
            differ += first_differs;
            first_differs = false;
            out_beat = 0;
            if (compare) ends.push_back(cycle);
            ++out_frame;
        } else {
            ++out_beat;
        }
    }

    void describe(const uint8_t* got, const uint8_t* expected) {
        first_differs = true;
        for (size_t value = 0; value <= width && reported < reports; ++value) {
            const size_t count = value < width ? bits : 8 * out_bytes - width * bits;
            const u64 a = bits_of(got, value * bits, count), b = bits_of(expected, value * bits, count);
            if (a == b) continue;
            ++reported;
            printf("value %" PRIu64 " %" PRIu64 " %zu %" PRIu64 " %" PRIu64 "\n", frame_index(out_frame), out_beat,
                   value, a, b);
        }
    }

    // A beat stays offered until it is taken; a new one is offered unless the source may stall and does.
    void offer_beat(bool stalls) {
        if (offer) return;
        offer = in_frame < in_limit && !(stalls && source_stalls.hit());
        if (offer) {
            put(core->s_axis_tdata, input.at(frame_index(in_frame), in_beat), in_bytes);
            core->s_axis_tlast = (in_beat == in_beats - 1) != twist;
        }
        core->s_axis_tvalid = offer;
    }

    // Whether the offered beat goes in with the next edge.
    bool taken() {
        if (!offer || !core->s_axis_tready) return false;
        offer = false;
        if (!began) first_input = cycle;
        began = true;
        if (in_frame < record) in_cycles.push_back(cycle);
        if (++in_beat == in_beats) {
            in_beat = 0;
            ++in_frame;
        }
        return true;
    }

    // One clock cycle. Inputs are set, combinational outputs settle, then the edge.
    void step(bool compare) {
        offer_beat(true);
        const bool ready = !sink_stalls.hit();
        core->m_axis_tready = ready;
        core->eval();
        const bool valid = core->m_axis_tvalid;
        if (held) {
            if (!valid)
                fault("m_axis_tvalid falls before the beat was taken at " + place());
            else if (memcmp(bytes_of(core->m_axis_tdata), hold.data(), out_bytes) != 0
                     || hold_last != bool(core->m_axis_tlast))
                fault("a beat changes before it was taken at " + place());
        }
        held = valid && !ready;
        if (held) {
            memcpy(hold.data(), bytes_of(core->m_axis_tdata), out_bytes);
            hold_last = core->m_axis_tlast;
        }
        taken();
        ++waiting;
        if (valid && ready) {
            waiting = 0;
            receive(compare);
        } else if (waiting > limit) {
            fault("no output beat for " + std::to_string(limit) + " cycles at " + place());
        }
        if (core->frame_error && !twist) fault("frame_error rises though TLAST is right at " + place());
        edge();
    }

    // Some beats go in, then `clear`: the core must be as after a reset. Optionally the first TLAST is wrong.
    void interrupt(u64 beats, bool broken) {
        in_limit = ~0ull;
        twist = broken;
        while (!faulty && in_frame * in_beats + in_beat < beats) step(false);
        core->s_axis_tvalid = 0;
        core->m_axis_tready = 0;
        core->eval();
        for (int i = 0; i < 4 && broken; ++i) {  // the error flag may be registered
            edge();
            core->eval();
        }
        if (broken && !core->frame_error) fault("frame_error stays low though TLAST was wrong on input");
        twist = false;
        core->clear = 1;
        idle(1);
        core->clear = 0;
        core->eval();
        if (core->m_axis_tvalid) fault("m_axis_tvalid is high after clear");
        if (core->frame_error) fault("frame_error is high after clear");
        restart();
        differ = 0;
    }

    void progress(bool always) {
        const auto now = std::chrono::steady_clock::now();
        if (!always && now - shown < std::chrono::milliseconds(200)) return;
        shown = now;
        printf("progress %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", out_frame, differ, cycle);
        fflush(stdout);
    }

    void run() {
        reset();
        std::string list = options.text("clear_after");
        for (char* at = list.data(); *at && !faulty;) interrupt(strtoull(at, &at, 10), options.number("break_last"));
        const u64 all = overrun ? ~0ull : frames;
        while (!faulty && out_frame < frames) {
            in_limit = alone && out_frame == 0 ? 1 : all;
            step(true);
            if ((cycle & 4095) == 0) progress(false);
        }
        progress(true);
        const u64 cycles = ends.empty() ? cycle : ends.back() + 1;
        const u64 received = out_frame, differing = differ + first_differs;
        if (!overrun) after();
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        save();
        printf("done %" PRIu64 " %" PRIu64 " %" PRIu64 " %.6f\n", received, differing, cycles, seconds.count());
        fflush(stdout);
        core->final();
    }

    // Inputs that no output needed are still taken; nothing may come after the last frame.
    void after() {
        for (u64 idle = 0; !faulty && in_frame < frames; edge()) {
            offer_beat(false);
            core->m_axis_tready = 1;
            core->eval();
            idle = taken() ? 0 : idle + 1;
            if (core->m_axis_tvalid) fault("a beat too many follows the last frame");
            if (idle > limit) fault("the last inputs are not taken at " + place());
        }
        in_limit = 0;
        for (u64 i = 0; i < drain && !faulty; ++i) {
            core->s_axis_tvalid = 0;
            core->m_axis_tready = 1;
            core->eval();
            if (core->m_axis_tvalid) fault("a beat too many follows the last frame");
            if (core->frame_error) fault("frame_error rises though TLAST is right");
            edge();
        }
    }

    void save() {
        FILE* file = fopen(options.text("cycles").c_str(), "wb");
        if (!file) usage("cannot write " + options.text("cycles"));
        const u64 head[] = {first_input, ends.size(), in_cycles.size(), out_cycles.size()};
        fwrite(head, sizeof(u64), 4, file);
        for (const auto* list : {&ends, &in_cycles, &out_cycles}) fwrite(list->data(), sizeof(u64), list->size(), file);
        if (fclose(file) != 0) usage("cannot write " + options.text("cycles"));
    }
};

}  // namespace

double sc_time_stamp() { return 0; }

int main(int argc, char** argv) {
    const Options options(argc, argv);
    std::unique_ptr<Bench> bench(new Bench(options));
    bench->run();
    return 0;
}
