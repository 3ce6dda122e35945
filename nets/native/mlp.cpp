// Forward pass, backward pass and optimiser step of N stacked MLPs, one after the other: what belongs to one network stays in
// the cache. Plain C interface, so that the object file depends on no version of torch.
//
// A network is a list of layers, each a linear map, a normalisation and an activation; it reads the input (source -1) or the
// output of an earlier layer. The input is read where it lies, block of columns by block. Matrices are row-major; of N
// networks they lie one after the other. B: rows of a network.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define WIDE 4
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define WIDE 2
#else
#define VECTOR_BYTES 16
#define WIDE 2
#endif

namespace {

enum Norm : int64_t { NONE = 0, LAYER = 1, BATCH = 2 };
enum Activation : int64_t { IDENTITY = 0, RELU = 1, TANH = 2 };
enum Kind : int64_t { SGD = 0, ADAM = 1, ADAMW = 2 };

struct Layer {
  int64_t source, inputs, outputs, norm, activation;
};

// Tensors of one layer, of all networks; null where there is none.
template <typename T>
struct Tensors {
  T *weight, *bias, *gain, *shift;        // parameters [N, O, I], [N, O] each
  T *mean, *var, *new_mean, *new_var;     // running statistics before and after the pass, [N, O]
  T *output, *unit, *inverse;             // [N, B, O]; normalised; 1 / deviation, [N, B] or [N, O]
  T *given, *back, *of_gain, *of_shift;   // gradient of the output, of the map's result [N, B, O]; of gain and shift [N, O]
};

// Columns of the input: of a network `slots` tensors [B, columns] side by side, those at `index`, or each in turn.
template <typename T>
struct Block {
  int64_t slots, columns, stride;  // stride: numbers from one tensor to the next; 0: all networks read the same one
  const T* data;
  T* back;               // B times its gradient; null: not wanted
  const int64_t* index;  // [N, slots]
  int64_t at(int64_t n, int64_t slot) const {
    const int64_t place = n * slots + slot;
    return (index ? index[place] : place) * stride;
  }
};

template <typename T>
struct Stack {
  int64_t networks, rows, inputs;
  std::vector<Layer> layers;
  const Tensors<T>* tensors;
  std::vector<Block<T>> blocks;
};

struct Step {  // Of an optimiser; `first`, `second`: corrections of the bias of the moments.
  int64_t kind;
  double rate, beta1, beta2, decay, momentum, epsilon, first, second;
};

template <typename T>
struct Vector {
  typedef T type __attribute__((vector_size(VECTOR_BYTES)));
  static constexpr int size = VECTOR_BYTES / sizeof(T);
  static inline type load(const T* p) { type v; std::memcpy(&v, p, sizeof(v)); return v; }
  static inline void store(T* p, type v) { std::memcpy(p, &v, sizeof(v)); }
  static inline type all(T x) { return x - type{}; }
};

template <typename T>
int64_t padded(int64_t count) {
  constexpr int64_t size = Vector<T>::size;
  return (count + size - 1) / size * size;
}

// What is soon read, of the next network: fetched into the cache a few lines at a time, while products are computed.
class Ahead {
 public:
  static constexpr int64_t LINE = 64;
  void add(const void* from, int64_t bytes) {
    if (count_ == MOST || !from) return;
    regions_[count_++] = {static_cast<const char*>(from), static_cast<const char*>(from) + bytes};
  }
  // Where the next `lines` are, all of one region; null: there are no more.
  const char* take(int64_t lines) {
    if (place_ == count_) return nullptr;
    const char* found = regions_[place_].at;
    regions_[place_].at += lines * LINE;
    if (regions_[place_].at >= regions_[place_].end) place_++;
    return found;
  }
  void clear() { count_ = place_ = 0; }

 private:
  static constexpr int MOST = 8;
  struct { const char *at, *end; } regions_[MOST];
  int count_ = 0, place_ = 0;
};

// --- products: C [M, columns] = A B, of A at (m, k) = a[m am + k ak], B [K, columns]; columns in whole vectors ------------
// Sums start at zero, or at the rows of `start` (`lds` numbers from one to the next; 0: all at the same one).

template <typename T, int R, int V>
static inline __attribute__((always_inline)) void block(T* c, int64_t ldc, const T* a, int64_t am, int64_t ak, const T* b,
                                                        int64_t ldb, int64_t k_count, const T* start, int64_t lds, Ahead& ahead) {
  typedef Vector<T> S;
  typename S::type sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) sum[r][v] = start ? S::load(start + r * lds + v * S::size) : S::all(0);
  const char* line = ahead.take(2 * k_count);
  const int64_t next = line ? Ahead::LINE : 0;
  if (!line) line = reinterpret_cast<const char*>(b);
  for (int64_t k = 0; k < k_count; k++, line += 2 * next) {
    __builtin_prefetch(line);
    __builtin_prefetch(line + next);
    typename S::type row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) row[v] = S::load(b + k * ldb + v * S::size);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const typename S::type factor = S::all(a[r * am + k * ak]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) sum[r][v] += factor * row[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) S::store(c + r * ldc + v * S::size, sum[r][v]);
}

template <typename T, int R, int V>
static inline int64_t rows_of(int64_t m, T* c, int64_t ldc, const T* a, int64_t am, int64_t ak, const T* b, int64_t ldb, int64_t rows,
                              int64_t k_count, const T* start, int64_t lds, Ahead& ahead) {
  for (; m + R <= rows; m += R)
    block<T, R, V>(c + m * ldc, ldc, a + m * am, am, ak, b, ldb, k_count, start ? start + m * lds : nullptr, lds, ahead);
  return m;
}

template <typename T, int V>
static void columns(T* c, int64_t ldc, const T* a, int64_t am, int64_t ak, const T* b, int64_t ldb, int64_t rows, int64_t k_count,
                    const T* start, int64_t lds, Ahead& ahead) {
  int64_t m = 0;
  m = rows_of<T, 6, V>(m, c, ldc, a, am, ak, b, ldb, rows, k_count, start, lds, ahead);
  m = rows_of<T, 4, V>(m, c, ldc, a, am, ak, b, ldb, rows, k_count, start, lds, ahead);
  m = rows_of<T, 2, V>(m, c, ldc, a, am, ak, b, ldb, rows, k_count, start, lds, ahead);
  rows_of<T, 1, V>(m, c, ldc, a, am, ak, b, ldb, rows, k_count, start, lds, ahead);
}

template <typename T>
static void product(T* c, int64_t ldc, const T* a, int64_t am, int64_t ak, const T* b, int64_t ldb, int64_t rows, int64_t k_count,
                    int64_t count, Ahead& ahead, const T* start = nullptr, int64_t lds = 0) {
  constexpr int64_t size = Vector<T>::size;
  int64_t n = 0;
  const auto from = [&] { return start ? start + n : nullptr; };
  for (; n + WIDE * size <= count; n += WIDE * size)
    columns<T, WIDE>(c + n, ldc, a, am, ak, b + n, ldb, rows, k_count, from(), lds, ahead);
  for (; n + 2 * size <= count; n += 2 * size) columns<T, 2>(c + n, ldc, a, am, ak, b + n, ldb, rows, k_count, from(), lds, ahead);
  for (; n < count; n += size) columns<T, 1>(c + n, ldc, a, am, ak, b + n, ldb, rows, k_count, from(), lds, ahead);
}

template <typename T>
static T* held(std::vector<T>& memory, int64_t count) {
  if (int64_t(memory.size()) < count) memory.resize(count);
  return memory.data();
}

// --- copies --------------------------------------------------------------------------------------------------------------

template <typename T>
static void transpose(T* to, int64_t ld, const T* from, int64_t rows, int64_t count) {  // [rows, count] to [count, ld]
  int64_t i = 0;
  if constexpr (std::is_same<T, float>::value) {
    typedef float four __attribute__((vector_size(16)));
    typedef int32_t places __attribute__((vector_size(16)));
    for (; i + 4 <= rows; i += 4) {
      int64_t j = 0;
      for (; j + 4 <= count; j += 4) {
        four r[4], t[4];
        for (int k = 0; k < 4; k++) std::memcpy(&r[k], from + (i + k) * count + j, 16);
        t[0] = __builtin_shuffle(r[0], r[1], places{0, 4, 1, 5});
        t[1] = __builtin_shuffle(r[0], r[1], places{2, 6, 3, 7});
        t[2] = __builtin_shuffle(r[2], r[3], places{0, 4, 1, 5});
        t[3] = __builtin_shuffle(r[2], r[3], places{2, 6, 3, 7});
        r[0] = __builtin_shuffle(t[0], t[2], places{0, 1, 4, 5});
        r[1] = __builtin_shuffle(t[0], t[2], places{2, 3, 6, 7});
        r[2] = __builtin_shuffle(t[1], t[3], places{0, 1, 4, 5});
        r[3] = __builtin_shuffle(t[1], t[3], places{2, 3, 6, 7});
        for (int k = 0; k < 4; k++) std::memcpy(to + (j + k) * ld + i, &r[k], 16);
      }
      for (; j < count; j++)
        for (int k = 0; k < 4; k++) to[j * ld + i + k] = from[(i + k) * count + j];
    }
  }
  for (; i < rows; i++)
    for (int64_t j = 0; j < count; j++) to[j * ld + i] = from[i * count + j];
  for (int64_t j = 0; j < count; j++)
    for (int64_t k = rows; k < ld; k++) to[j * ld + k] = 0;
}

// Copy rows of `count` numbers.
template <typename T>
static inline void copy(T* to, int64_t ldt, const T* from, int64_t ldf, int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < count; i++) to[r * ldt + i] = from[r * ldf + i];
}

// Rows of `count` numbers, `ld` from one to the next, in whole vectors: as they are, or a dense copy with zeros behind.
template <typename T>
static const T* in_vectors(const T* from, int64_t& ld, int64_t rows, int64_t count, std::vector<T>& memory) {
  const int64_t whole = padded<T>(count);
  if (whole == count) return from;
  T* found = held(memory, rows * whole);
  for (int64_t r = 0; r < rows; r++) {
    std::memcpy(found + r * whole, from + r * ld, count * sizeof(T));
    std::fill(found + r * whole + count, found + (r + 1) * whole, T(0));
  }
  ld = whole;
  return found;
}

// The largest magnitude; not finite where one number is not.
template <typename T>
static double largest(const T* x, int64_t count) {
  typedef typename std::conditional<sizeof(T) == 4, uint32_t, uint64_t>::type Bits;
  typedef Bits many __attribute__((vector_size(VECTOR_BYTES)));
  constexpr Bits sign = ~(Bits(1) << (8 * sizeof(Bits) - 1));
  constexpr int64_t size = VECTOR_BYTES / sizeof(Bits);
  many each[4] = {};
  int64_t i = 0;
  for (; i + 4 * size <= count; i += 4 * size)
    for (int k = 0; k < 4; k++) {
      many bits;
      std::memcpy(&bits, x + i + k * size, sizeof(bits));
      bits &= sign;
      each[k] = bits > each[k] ? bits : each[k];
    }
  Bits most = 0;
  for (int k = 0; k < 4; k++)
    for (int64_t j = 0; j < size; j++) most = std::max<Bits>(most, each[k][j]);
  for (; i < count; i++) {
    Bits bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    most = std::max<Bits>(most, bits & sign);
  }
  T found;
  std::memcpy(&found, &most, sizeof(found));
  return double(found);
}

// The larger of two magnitudes; not finite where one of them is not.
static inline double larger(double one, double other) {
  return one < HUGE_VAL && other < HUGE_VAL ? std::max(one, other) : HUGE_VAL;
}

// --- layers --------------------------------------------------------------------------------------------------------------

template <typename T>
static void activate(T* y, int64_t count, int64_t activation) {
  if (activation == RELU)
    for (int64_t i = 0; i < count; i++) y[i] = y[i] < T(0) ? T(0) : y[i];  // what is not a number stays so
  else if (activation == TANH)
    for (int64_t i = 0; i < count; i++) y[i] = std::tanh(y[i]);
}

template <typename T>
static void layer_norm(T* z, int64_t ld, T* unit, T* inverse, const T* gain, const T* shift, int64_t rows, int64_t count, T eps) {
  for (int64_t b = 0; b < rows; b++) {
    T *row = z + b * ld, *own = unit + b * count, total = 0, square = 0;
    for (int64_t o = 0; o < count; o++) total += row[o];
    const T mean = total / T(count);
    for (int64_t o = 0; o < count; o++) square += (row[o] - mean) * (row[o] - mean);
    const T scale = inverse[b] = T(1) / std::sqrt(square / T(count) + eps);
    for (int64_t o = 0; o < count; o++) {
      own[o] = (row[o] - mean) * scale;
      row[o] = own[o] * gain[o] + shift[o];
    }
  }
}

template <typename T>
static void batch_norm(T* z, int64_t ld, const Tensors<T>& t, int64_t n, int64_t rows, int64_t count, T eps, T momentum, T* work) {
  T *mean = work, *square = work + count;
  std::fill(work, work + 2 * count, T(0));
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) mean[o] += z[b * ld + o];
  for (int64_t o = 0; o < count; o++) mean[o] /= T(rows);
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) square[o] += (z[b * ld + o] - mean[o]) * (z[b * ld + o] - mean[o]);
  const int64_t at = n * count;
  T* inverse = t.inverse + at;
  for (int64_t o = 0; o < count; o++) {
    inverse[o] = T(1) / std::sqrt(square[o] / T(rows) + eps);
    t.new_mean[at + o] = t.mean[at + o] + momentum * (mean[o] - t.mean[at + o]);
    t.new_var[at + o] = t.var[at + o] + momentum * (square[o] / T(rows - 1) - t.var[at + o]);
  }
  const T *gain = t.gain + at, *shift = t.shift + at;
  for (int64_t b = 0; b < rows; b++) {
    T *row = z + b * ld, *own = t.unit + (n * rows + b) * count;
    for (int64_t o = 0; o < count; o++) {
      own[o] = (row[o] - mean[o]) * inverse[o];
      row[o] = own[o] * gain[o] + shift[o];
    }
  }
}

template <typename T>
struct Work {
  std::vector<T> input, pack, rows, copy, back, sums;
  std::vector<double> magnitudes;
  std::vector<char> reached;
  Ahead ahead;
};

template <typename T>
struct Rows {
  const T* data;
  int64_t ld;
};

// The input of a network, in whole vectors: as it lies in memory, or gathered, with zeros behind.
template <typename T>
static Rows<T> input_of(const Stack<T>& stack, int64_t n, Work<T>& work) {
  const int64_t ld = padded<T>(stack.inputs);
  const Block<T>& first = stack.blocks[0];
  if (stack.blocks.size() == 1 && first.slots == 1 && ld == stack.inputs) return {first.data + first.at(n, 0), ld};
  T* x = held(work.input, stack.rows * ld);
  int64_t column = 0;
  for (const Block<T>& block : stack.blocks)
    for (int64_t slot = 0; slot < block.slots; slot++, column += block.columns)
      copy(x + column, ld, block.data + block.at(n, slot), block.columns, stack.rows, block.columns);
  for (int64_t b = 0; b < stack.rows; b++) std::fill(x + b * ld + column, x + (b + 1) * ld, T(0));
  return {x, ld};
}

template <typename T>
static void fetch_input(const Stack<T>& stack, int64_t n, Ahead& ahead) {
  for (const Block<T>& block : stack.blocks)
    for (int64_t slot = 0; slot < block.slots; slot++)
      if (block.stride) ahead.add(block.data + block.at(n, slot), stack.rows * block.columns * sizeof(T));
}

template <typename T>
static Rows<T> read_by(const Layer& layer, const Stack<T>& stack, const Rows<T>& x, int64_t n) {
  if (layer.source < 0) return x;
  return {stack.tensors[layer.source].output + n * stack.rows * layer.inputs, layer.inputs};
}

template <typename T>
static void forward(const Stack<T>& stack, int64_t n, bool last, T eps, T momentum, Work<T>& work) {
  const int64_t rows = stack.rows;
  const Rows<T> x = input_of(stack, n, work);
  for (size_t l = 0; l < stack.layers.size(); l++) {
    const Layer& layer = stack.layers[l];
    const Tensors<T>& t = stack.tensors[l];
    const int64_t in = layer.inputs, out = layer.outputs, ld = padded<T>(out);
    const Rows<T> read = read_by(layer, stack, x, n);
    T* pack = held(work.pack, in * ld);
    T* output = t.output + n * rows * out;
    T* z = ld == out ? output : held(work.rows, rows * ld);
    transpose(pack, ld, t.weight + n * out * in, out, in);
    work.ahead.clear();
    if (!last) {
      work.ahead.add(t.weight + (n + 1) * out * in, out * in * sizeof(T));
      if (layer.source < 0) fetch_input(stack, n + 1, work.ahead);
    }
    int64_t ldb = out;
    const T* bias = t.bias ? in_vectors<T>(t.bias + n * out, ldb, 1, out, work.copy) : nullptr;
    product(z, ld, read.data, read.ld, int64_t(1), pack, ld, rows, in, ld, work.ahead, bias);
    if (layer.norm == LAYER)
      layer_norm(z, ld, t.unit + n * rows * out, t.inverse + n * rows, t.gain + n * out, t.shift + n * out, rows, out, eps);
    else if (layer.norm == BATCH)
      batch_norm(z, ld, t, n, rows, out, eps, momentum, held(work.sums, 2 * out));
    if (z != output) copy(output, out, z, ld, rows, out);
    activate(output, rows * out, layer.activation);
  }
}

template <typename T>
static void through_activation(T* dy, const T* y, int64_t count, int64_t activation) {
  if (activation == RELU)
    for (int64_t i = 0; i < count; i++) dy[i] = y[i] <= T(0) ? T(0) : dy[i];
  else if (activation == TANH)
    for (int64_t i = 0; i < count; i++) dy[i] *= T(1) - y[i] * y[i];
}

// Turn the gradient dy [rows, count] of a normalisation's result into that of its input; gradients of gain and shift.
template <typename T>
static void through_norm(T* dy, const Layer& layer, const Tensors<T>& t, int64_t n, int64_t rows, T* sums) {
  const int64_t count = layer.outputs, at = n * count;
  const T *gain = t.gain + at, *unit = t.unit + n * rows * count;
  T *of_gain = t.of_gain + at, *of_shift = t.of_shift + at;
  std::fill(of_gain, of_gain + count, T(0));
  std::fill(of_shift, of_shift + count, T(0));
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) {
      of_gain[o] += dy[b * count + o] * unit[b * count + o];
      of_shift[o] += dy[b * count + o];
    }
  if (layer.norm == LAYER) {
    for (int64_t b = 0; b < rows; b++) {
      T *d = dy + b * count, total = 0, along = 0;
      const T* u = unit + b * count;
      for (int64_t o = 0; o < count; o++) {
        d[o] *= gain[o];
        total += d[o];
        along += d[o] * u[o];
      }
      const T scale = t.inverse[n * rows + b];
      total /= T(count), along /= T(count);
      for (int64_t o = 0; o < count; o++) d[o] = scale * (d[o] - total - u[o] * along);
    }
    return;
  }
  T *scale = sums, *total = sums + count, *along = sums + 2 * count;
  for (int64_t o = 0; o < count; o++) {
    scale[o] = gain[o] * t.inverse[at + o];
    total[o] = of_shift[o] / T(rows);
    along[o] = of_gain[o] / T(rows);
  }
  for (int64_t b = 0; b < rows; b++)
    for (int64_t o = 0; o < count; o++) {
      T& d = dy[b * count + o];
      d = scale[o] * (d - total[o] - unit[b * count + o] * along[o]);
    }
}

// The gradients of every map's result, and those of the blocks of the input that want it; returns a bound of all gradients'
// numbers, those of the blocks times `rows`, which is not finite where one of them might not be.
template <typename T>
static double backward(const Stack<T>& stack, int64_t n, bool last, Work<T>& work) {
  const int64_t rows = stack.rows, count = int64_t(stack.layers.size());
  int64_t first = stack.inputs, end = 0, widest = stack.inputs, column = 0;  // columns of the input from the first wanted to the last
  for (const Block<T>& block : stack.blocks) {
    const int64_t next = column + block.slots * block.columns;
    if (block.back) first = std::min(first, column), end = next;
    column = next;
  }
  for (const Layer& layer : stack.layers) widest = std::max(widest, layer.outputs);
  const int64_t wanted = end - first, space = rows * padded<T>(widest);
  T* sums = held(work.back, space * (count + 1));  // gradients of the layers' outputs, and of the input
  work.reached.assign(count + 1, 0);
  work.magnitudes.assign(count + 1, -1);
  double bound = 0;
  const auto note = [&bound](double value) { bound = larger(bound, value); };
  for (int64_t l = count - 1; l >= 0; l--) {
    const Layer& layer = stack.layers[l];
    const Tensors<T>& t = stack.tensors[l];
    const int64_t in = layer.inputs, out = layer.outputs, size = rows * out;
    if (!work.reached[l] && !t.given) continue;  // `back` is null: nothing reaches the layer
    T* dy = t.back + n * size;                   // the given one itself, where it is that of the map's result
    if (t.back != t.given) {
      const T *own = t.given ? t.given + n * size : nullptr, *below = sums + space * l;
      const int64_t ld = padded<T>(out);
      if (!work.reached[l])
        std::memcpy(dy, own, size * sizeof(T));
      else
        for (int64_t b = 0; b < rows; b++)
          for (int64_t o = 0; o < out; o++) dy[b * out + o] = below[b * ld + o] + (own ? own[b * out + o] : T(0));
    }
    through_activation(dy, t.output + n * size, size, layer.activation);
    if (layer.norm != NONE) through_norm(dy, layer, t, n, rows, held(work.sums, 3 * out));
    const int64_t to = layer.source < 0 ? count : layer.source;
    double& read = work.magnitudes[to];
    if (read < 0) {
      read = 0;
      if (layer.source >= 0) read = largest(stack.tensors[layer.source].output + n * rows * in, rows * in);
      for (const Block<T>& block : stack.blocks)
        for (int64_t slot = 0; slot < block.slots && layer.source < 0; slot++)
          read = larger(read, largest(block.data + block.at(n, slot), rows * block.columns));
    }
    const double most = largest(dy, size);
    note(most * double(rows));
    note(most * double(rows) * read);
    if (layer.norm != NONE) {
      note(largest(t.of_gain + n * out, out));
      note(largest(t.of_shift + n * out, out));
    }
    if (layer.source < 0 && wanted <= 0) continue;
    const int64_t skipped = layer.source < 0 ? first : 0, columns = layer.source < 0 ? wanted : in, lower = padded<T>(columns);
    int64_t ldw = in;
    const T* weight = in_vectors<T>(t.weight + n * out * in + skipped, ldw, out, columns, work.pack);
    work.ahead.clear();
    if (!last) {
      work.ahead.add(t.weight + (n + 1) * out * in, out * in * sizeof(T));
      if (t.given) work.ahead.add(t.given + (n + 1) * size, size * sizeof(T));
      if (layer.activation != IDENTITY) work.ahead.add(t.output + (n + 1) * size, size * sizeof(T));
      if (layer.source < 0) fetch_input(stack, n + 1, work.ahead);
    }
    T* sum = sums + space * to;
    product(sum, lower, dy, out, int64_t(1), weight, ldw, rows, out, lower, work.ahead, work.reached[to] ? sum : nullptr, lower);
    work.reached[to] = 1;
  }
  column = -first;
  for (const Block<T>& block : stack.blocks)
    for (int64_t slot = 0; slot < block.slots; slot++, column += block.columns)
      if (block.back) {
        T* found = block.back + block.at(n, slot);
        copy(found, block.columns, sums + space * count + column, padded<T>(wanted), rows, block.columns);
        note(largest(found, rows * block.columns) * double(rows));
      }
  return bound;
}

// --- optimisers: as torch's ----------------------------------------------------------------------------------------------

template <typename T>
static void adam(T* __restrict p, const T* __restrict g, T* __restrict m, T* __restrict v, int64_t count, const Step& step) {
  const T keep = T(1 - step.beta1), beta2 = T(step.beta2), fresh = T(1 - step.beta2), size = T(step.rate / step.first);
  const T root = T(1 / std::sqrt(step.second)), eps = T(step.epsilon);
  const T decay = step.kind == ADAM ? T(step.decay) : T(0), shrink = step.kind == ADAMW ? T(1 - step.rate * step.decay) : T(1);
  for (int64_t i = 0; i < count; i++) {
    const T d = g[i] + decay * p[i];
    m[i] += (d - m[i]) * keep;
    v[i] = v[i] * beta2 + d * d * fresh;
    p[i] = p[i] * shrink - size * (m[i] / (std::sqrt(v[i]) * root + eps));
  }
}

template <typename T>
static void sgd(T* __restrict p, const T* __restrict g, T* __restrict m, int64_t count, const Step& step) {
  const T rate = T(step.rate), decay = T(step.decay), momentum = T(step.momentum);
  if (!m) {
    for (int64_t i = 0; i < count; i++) p[i] -= rate * (g[i] + decay * p[i]);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    m[i] = m[i] * momentum + (g[i] + decay * p[i]);
    p[i] -= rate * m[i];
  }
}

constexpr int64_t BYTES = 1 << 15;  // of a weight's gradient that are made, and used, at once

// What becomes of a gradient: it is written, or an optimiser follows it.
template <typename T>
struct Target {
  T *gradient, *parameter, *first, *second;
  void take(int64_t at, const T* g, int64_t count, const Step& step) const {
    if (gradient)
      std::memcpy(gradient + at, g, count * sizeof(T));
    else if (step.kind == SGD)
      sgd(parameter + at, g, first ? first + at : nullptr, count, step);
    else
      adam(parameter + at, g, first + at, second + at, count, step);
  }
};

template <typename T>
static void update(const Stack<T>& stack, int64_t n, bool last, const Target<T>* targets, const Step& step, Work<T>& work) {
  const int64_t rows = stack.rows;
  const Rows<T> x = input_of(stack, n, work);
  for (size_t l = 0; l < stack.layers.size(); l++) {
    const Layer& layer = stack.layers[l];
    const Tensors<T>& t = stack.tensors[l];
    const int64_t in = layer.inputs, out = layer.outputs, ld = padded<T>(in);
    const Target<T>* own = targets + 4 * l;
    const int64_t strip_rows = std::max<int64_t>(6, BYTES / int64_t(ld * sizeof(T)) / 6 * 6);
    T* strip = held(work.rows, std::max(strip_rows * ld, out));
    if (!t.back) {  // nothing reaches the layer: its gradients are zeros, and its parameters stay
      if (!own[0].gradient) continue;
      std::fill(strip, strip + std::max(strip_rows * ld, out), T(0));
      for (int64_t o = 0; o < out; o++) own[0].take((n * out + o) * in, strip, in, step);
      for (int i = layer.norm == BATCH ? 2 : 1; i < (layer.norm == NONE ? 2 : 4); i++) own[i].take(n * out, strip, out, step);
      continue;
    }
    const T* dz = t.back + n * rows * out;
    Rows<T> read = read_by(layer, stack, x, n);
    if (layer.source >= 0) read.data = in_vectors<T>(read.data, read.ld, rows, in, work.copy);
    for (int64_t o = 0; o < out; o += strip_rows) {
      const int64_t some = std::min(strip_rows, out - o);
      work.ahead.clear();
      if (!last && o + some >= out) {
        work.ahead.add(dz + rows * out, rows * out * sizeof(T));
        if (layer.source >= 0)
          work.ahead.add(stack.tensors[layer.source].output + (n + 1) * rows * in, rows * in * sizeof(T));
        else
          fetch_input(stack, n + 1, work.ahead);
      }
      product(strip, ld, dz + o, int64_t(1), out, read.data, read.ld, some, rows, ld, work.ahead);
      if (ld == in) {
        own[0].take((n * out + o) * in, strip, some * in, step);
      } else {
        for (int64_t r = 0; r < some; r++) own[0].take((n * out + o + r) * in, strip + r * ld, in, step);
      }
    }
    if (layer.norm != BATCH) {
      std::fill(strip, strip + out, T(0));
      for (int64_t b = 0; b < rows; b++)
        for (int64_t o = 0; o < out; o++) strip[o] += dz[b * out + o];
      own[1].take(n * out, strip, out, step);
    }
    if (layer.norm != NONE) {
      own[2].take(n * out, t.of_gain + n * out, out, step);
      own[3].take(n * out, t.of_shift + n * out, out, step);
    }
  }
}

// --- all networks --------------------------------------------------------------------------------------------------------

// The process's OpenMP runtime, which is torch's, runs `own` in each thread of a team of at most `threads`; null: there is none.
// Threads of another pool would have to wait for its threads, which keep their processors for a while after torch's operations.
using Team = void (*)(void (*own)(void*), void* data, unsigned threads, unsigned flags);

static Team team() {
  static const Team found = reinterpret_cast<Team>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return found;
}

// Call each(n, whether it is the last of its part, work) for all n; the parts, one to a thread, do not depend on how many there are.
template <typename T, typename Each>
static void for_all(int64_t count, int64_t threads, const Each& each) {
  struct Parts {
    const Each& each;
    int64_t count, parts;
    std::atomic<int64_t> next;
    static void compute(void* data) {
      static thread_local Work<T> work;
      Parts& own = *static_cast<Parts*>(data);
      for (int64_t part; (part = own.next++) < own.parts;) {
        const int64_t end = own.count * (part + 1) / own.parts;
        for (int64_t n = own.count * part / own.parts; n < end; n++) own.each(n, n + 1 == end, work);
      }
    }
  };
  Parts parts{each, count, std::max<int64_t>(1, std::min(threads, count)), {0}};
  if (parts.parts > 1 && team()) return team()(&Parts::compute, &parts, unsigned(parts.parts), 0);
  std::vector<std::thread> others;
  for (int64_t thread = 1; thread < parts.parts; thread++) others.emplace_back(&Parts::compute, &parts);
  Parts::compute(&parts);
  for (std::thread& other : others) other.join();
}

static std::vector<Layer> layers_of(const int64_t* numbers, int64_t count) {
  std::vector<Layer> layers(count);
  for (int64_t l = 0; l < count; l++)
    layers[l] = Layer{numbers[5 * l], numbers[5 * l + 1], numbers[5 * l + 2], numbers[5 * l + 3], numbers[5 * l + 4]};
  return layers;
}

// What all calls share: N, B, the layers, and the blocks of the input.
struct Call {
  int64_t networks, rows, layers, blocks, threads;
  const int64_t* numbers;
  void* const* tensors;
  const void* input;
};

template <typename T>
static Stack<T> stack_of(const Call& call) {
  const Block<T>* blocks = static_cast<const Block<T>*>(call.input);
  Stack<T> stack{call.networks, call.rows, 0, layers_of(call.numbers, call.layers), reinterpret_cast<const Tensors<T>*>(call.tensors),
                 {blocks, blocks + call.blocks}};
  for (const Block<T>& block : stack.blocks) stack.inputs += block.slots * block.columns;
  return stack;
}

template <typename T>
static void forward_all(const Call& call, double eps, double momentum) {
  const Stack<T> stack = stack_of<T>(call);
  for_all<T>(call.networks, call.threads,
             [&](int64_t n, bool last, Work<T>& work) { forward(stack, n, last, T(eps), T(momentum), work); });
}

template <typename T>
static void backward_all(const Call& call, double* bounds) {
  const Stack<T> stack = stack_of<T>(call);
  for_all<T>(call.networks, call.threads, [&](int64_t n, bool last, Work<T>& work) { bounds[n] = backward(stack, n, last, work); });
}

template <typename T>
static void update_all(const Call& call, void* const* targets, const uint8_t* stepping, float* steps, int64_t kind,
                       const double* settings) {
  const Stack<T> stack = stack_of<T>(call);
  const Target<T>* own = reinterpret_cast<const Target<T>*>(targets);
  for_all<T>(call.networks, call.threads, [&](int64_t n, bool last, Work<T>& work) {
    if (stepping && !stepping[n]) return;
    Step step{kind, settings[0], settings[1], settings[2], settings[3], settings[4], settings[5], 1, 1};
    if (steps) {
      steps[n] += 1;
      step.first = 1 - std::pow(step.beta1, double(steps[n]));
      step.second = 1 - std::pow(step.beta2, double(steps[n]));
    }
    update(stack, n, last, own, step, work);
  });
}

}  // namespace

#define INTERFACE(T, NAME)                                                                                                      \
  void antiphon_forward_##NAME(const Call* call, double eps, double momentum) { forward_all<T>(*call, eps, momentum); }         \
  void antiphon_backward_##NAME(const Call* call, double* bounds) { backward_all<T>(*call, bounds); }                           \
  void antiphon_update_##NAME(const Call* call, void* const* targets, const uint8_t* stepping, float* steps, int64_t kind,      \
                              const double* settings) {                                                                         \
    update_all<T>(*call, targets, stepping, steps, kind, settings);                                                             \
  }

extern "C" {
INTERFACE(float, float32)
INTERFACE(double, float64)
}
