/**
 * @file
 * The C interface: for other languages, and for programs that want no C++ across a library's
 * border.
 *
 * A call that can fail answers a status. What is wrong is in d2export_problem(), the next step in
 * d2export_hint(), of the thread that called. What a call makes belongs to the caller, who frees it
 * with the function named there; all freeing functions take NULL. Nothing throws. Strings are
 * UTF-8.
 */
#ifndef D2EXPORT_C_H
#define D2EXPORT_C_H

#include <d2export/export.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How a call ended; above 0, the exit codes of d2export's command line. */
typedef enum d2export_status {
    D2EXPORT_OK = 0,
    D2EXPORT_BAD_INPUT = 2, /**< an argument, a picture, or a bundle is not what it should be */
    D2EXPORT_MISFIT = 3,    /**< this machine, or a version on it, does not fit */
    D2EXPORT_INTERNAL = 4   /**< no memory, or a bug */
} d2export_status;

/** Why an answer ended. */
typedef enum d2export_finish {
    D2EXPORT_STOP = 0,     /**< by a token that ends answers */
    D2EXPORT_LENGTH = 1,   /**< at max_new_tokens */
    D2EXPORT_CANCELLED = 2 /**< by on_text */
} d2export_finish;

typedef struct d2export_model d2export_model;   /**< an opened bundle; any number of threads */
typedef struct d2export_image d2export_image;   /**< a picture; immutable, any number of threads */
typedef struct d2export_answer d2export_answer; /**< immutable, any number of threads */

/** How engines are run. All zeros are the defaults. */
typedef struct d2export_tensorrt {
    const char* library; /**< libnvinfer.so.<major>; NULL for the one that the system finds */
    const char* plugin;  /**< libd2export_plugin.so; NULL if the engines need none */
    int32_t device;      /**< number of the GPU, as CUDA counts them */
    int32_t cuda_graphs; /**< decode steps that are kept as CUDA graphs; 0 for none */
    void* stream;        /**< a cudaStream_t that outlives the model; NULL for streams of its own */
    int32_t host_code;   /**< not 0: code inside engines may run on the CPU */
    /**
     * Where all memory on the GPU comes from, TensorRT's own included; both NULL for CUDA. Called
     * from any thread. `allocate` answers `bytes` (at least 1) aligned to 256, or NULL if there are
     * none; `release` takes back what it answered, which no work uses any more.
     */
    void* (*allocate)(void* user, size_t bytes);
    void (*release)(void* user, void* memory);
    void* user; /**< handed to both; it outlives the model */
} d2export_tensorrt;

/** How a bundle is opened. All zeros are the defaults: `d2export_options options = {0};` */
typedef struct d2export_options {
    const char* onnx_runtime; /**< libonnxruntime.so; NULL for the one that the system finds */
    const char* custom_ops;   /**< libd2export_onnxruntime.so; NULL for none */
    int32_t threads;          /**< of one operator; 0 for all cores */
    int32_t manifest_only;    /**< not 0: files are not compared with their SHA-256 */
    const d2export_tensorrt* tensorrt; /**< NULL for ONNX Runtime; else engines are run */
} d2export_options;

/** How a question is answered. All zeros are the defaults. */
typedef struct d2export_request {
    int64_t max_new_tokens; /**< 0 for 256 */
    const char* system;     /**< instead of the model's own system message; NULL for that */
    double temperature;     /**< 0 for the most likely tokens; the next three count above 0 only */
    int64_t top_k;          /**< 0 for all */
    double top_p;           /**< 0 for all */
    uint64_t seed;
    /**
     * Called with each piece of the answer as it comes, on the thread of the call; `piece` has
     * `size` bytes, ends with a NUL and is gone when the function returns. 0 ends the answer. NULL
     * for none.
     */
    int32_t (*on_text)(void* user, const char* piece, size_t size);
    /** Called before the answer if the bundle's prior saw no pictures such as these; NULL for none.
     */
    void (*on_warning)(void* user, const char* problem);
    void* user; /**< handed to on_text and on_warning */
} d2export_request;

/** The version of this library, such as "0.1.0". */
D2EXPORT_API const char* d2export_version(void);

/** What is wrong with the last call of this thread that failed; valid until its next one. */
D2EXPORT_API const char* d2export_problem(void);

/** What to do about it; valid as d2export_problem(). */
D2EXPORT_API const char* d2export_hint(void);

/**
 * Opens the bundle in a folder, for ONNX Runtime on the CPU or for TensorRT.
 *
 * @param options NULL for the defaults; only read during the call
 * @param model to be freed with d2export_model_free(); unchanged if the call fails
 */
D2EXPORT_API d2export_status d2export_model_open(const char* bundle,
                                                 const d2export_options* options,
                                                 d2export_model** model);

/** Frees a model that no thread uses any more. */
D2EXPORT_API void d2export_model_free(d2export_model* model);

/** Reads a picture from a file; to be freed with d2export_image_free(). */
D2EXPORT_API d2export_status d2export_image_read(const char* path, d2export_image** image);

/** Reads a picture from the bytes of a file; to be freed with d2export_image_free(). */
D2EXPORT_API d2export_status d2export_image_decode(const uint8_t* bytes, size_t size,
                                                   d2export_image** image);

/** Copies `height` rows of `width` pixels of red, green, blue, a camera's frame for one. */
D2EXPORT_API d2export_status d2export_image_copy(const uint8_t* rgb, int32_t width, int32_t height,
                                                 d2export_image** image);

/**
 * A picture that was cut and normalised on the GPU already; it is not copied and has to stay.
 *
 * @param pixels `[tiles, 3, side, side]` float32 in the GPU's memory: `columns` x `rows` tiles, and
 *     the thumbnail behind them if that is above 1
 */
D2EXPORT_API d2export_status d2export_image_on_device(const d2export_model* model,
                                                      const float* pixels, int32_t columns,
                                                      int32_t rows, d2export_image** image);

D2EXPORT_API void d2export_image_free(d2export_image* image);

/**
 * Answers a question about pictures. Any number of threads may ask one model at once.
 *
 * @param images `count` pictures, in the order of their `<image>` placeholders
 * @param request NULL for the defaults; only read during the call
 * @param answer to be freed with d2export_answer_free(); unchanged if the call fails
 */
D2EXPORT_API d2export_status d2export_ask(const d2export_model* model,
                                          const d2export_image* const* images, size_t count,
                                          const char* prompt, const d2export_request* request,
                                          d2export_answer** answer);

D2EXPORT_API void d2export_answer_free(d2export_answer* answer);

/** The text of an answer, as long as that lives. */
D2EXPORT_API const char* d2export_answer_text(const d2export_answer* answer);

/** Seconds that the stages of an answer took; `decode` is of all tokens but the first. */
typedef struct d2export_timings {
    double preprocessing, vision, prefill, decode;
} d2export_timings;

/** What an answer took. */
D2EXPORT_API d2export_timings d2export_answer_timings(const d2export_answer* answer);

/** Why it ended. */
D2EXPORT_API d2export_finish d2export_answer_finish(const d2export_answer* answer);

/** Its token ids, with the one that ended it, as long as it lives; their number in `count`. */
D2EXPORT_API const int64_t* d2export_answer_tokens(const d2export_answer* answer, size_t* count);

/**
 * Which visual tokens of an image stayed, ascending, as long as the answer lives; their number in
 * `count`. NULL and 0 if there is no such image.
 */
D2EXPORT_API const int32_t* d2export_answer_kept(const d2export_answer* answer, size_t image,
                                                 size_t* count);

#ifdef __cplusplus
}
#endif

#endif
