package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"clusterflow/internal/batchd"
)

// batchdFlags are what batchd was asked for.
type batchdFlags struct {
	listen, dir, judge, keyEnv string
	upstream, upstreamKeyEnv   string
	concurrency                int
	expire                     time.Duration
	faults                     string
}

func (a *app) batchdCommand() *cobra.Command {
	var f batchdFlags
	c := &cobra.Command{
		Use:   "batchd",
		Short: "Serve the Batch API, answered by the offline judge or a model server",
		Long: "batchd speaks the Files, Batches and Chat Completions endpoints of the OpenAI API and answers\n" +
			"every request with the offline judge or, with --upstream, by a server that speaks Chat\n" +
			"Completions (vLLM, llama.cpp, Ollama): so a local model gets batches. Files and batches are\n" +
			"kept in --dir: a batchd that is started again goes on where it was. Evaluators reach it by\n" +
			"base_url. It serves this machine alone unless --key-env names a key that callers must have;\n" +
			"it does not encrypt: on an untrusted network put a TLS proxy before it.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("judge") && f.upstream != "" {
				return errors.New("--judge and --upstream: give one or the other")
			}
			return a.batchd(c.Context(), f)
		},
	}
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8420", "the `address` to serve on; other than loopback only with --key-env")
	c.Flags().StringVar(&f.keyEnv, "key-env", "", "the environment `variable` with the key that callers must send")
	c.Flags().StringVar(&f.dir, "dir", ".clusterflow-batchd", "the `folder` for files and batches")
	c.Flags().StringVar(&f.judge, "judge", "lexical", "who answers: lexical")
	c.Flags().StringVar(&f.upstream, "upstream", "", "answer by the chat completions of a server at this `URL`, such as http://127.0.0.1:8000/v1")
	c.Flags().StringVar(&f.upstreamKeyEnv, "upstream-key-env", "", "the environment `variable` with the key for --upstream")
	c.Flags().IntVar(&f.concurrency, "concurrency", 0, "how many requests are answered at once (default: 8 with --upstream, else one per core)")
	c.Flags().DurationVar(&f.expire, "expire-after", 24*time.Hour, "end a batch that is not done after this `time` as expired")
	c.Flags().StringVar(&f.faults, "faults", "", "misbehave, for tests of clients: see internal/batchd/faults.go")
	c.Flags().Lookup("faults").Hidden = true
	return c
}

// upstreamConcurrency is how many calls an upstream server gets at once, unless
// told otherwise.
const upstreamConcurrency = 8

// batchdOptions are those of the server that f asks for.
func (a *app) batchdOptions(f batchdFlags) (o batchd.Options, err error) {
	o.Dir, o.Concurrency, o.Window = f.dir, f.concurrency, f.expire
	if f.expire <= 0 {
		return o, fmt.Errorf("--expire-after %s: give a time such as 24h", f.expire)
	}
	if f.faults != "" {
		if o.Faults, err = batchd.ParseFaults(f.faults); err != nil {
			return o, fmt.Errorf("--faults: %w", err)
		}
	}
	if f.concurrency < 0 {
		return o, fmt.Errorf("--concurrency %d: give a positive number", f.concurrency)
	}
	if o.Key, err = a.keyIn("--key-env", f.keyEnv); err != nil {
		return o, err
	}
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return o, fmt.Errorf("--listen %s: give host:port, such as 127.0.0.1:8420", f.listen)
	}
	if ip := net.ParseIP(host); o.Key == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return o, fmt.Errorf("--listen %s: without a key batchd serves only this machine; give a loopback address such as 127.0.0.1:8420, or name the variable of a key with --key-env", f.listen)
	}
	if f.upstream == "" {
		if f.judge != "lexical" {
			return o, fmt.Errorf("--judge %s: there is only the lexical judge; --upstream URL asks a model", f.judge)
		}
		if f.upstreamKeyEnv != "" {
			return o, errors.New("--upstream-key-env is for --upstream, which is not given")
		}
		o.Judge = batchd.Lexical
		return o, nil
	}
	if u, err := url.Parse(f.upstream); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return o, fmt.Errorf("--upstream %s: give the base URL of a server, such as http://127.0.0.1:8000/v1", f.upstream)
	}
	o.Upstream = &batchd.Upstream{URL: f.upstream}
	if o.Concurrency == 0 {
		o.Concurrency = upstreamConcurrency
	}
	o.Upstream.Key, err = a.keyIn("--upstream-key-env", f.upstreamKeyEnv)
	return o, err
}

// keyIn reads a key from the variable that a flag names; "" without one.
func (a *app) keyIn(flag, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	key := a.getenv(name)
	if key == "" {
		return "", fmt.Errorf("%s %s: the environment variable %s is not set", flag, name, name)
	}
	return key, nil
}

func (a *app) batchd(ctx context.Context, f batchdFlags) error {
	o, err := a.batchdOptions(f)
	if err != nil {
		return err
	}
	o.Log = slog.New(slog.NewTextHandler(a.err, nil))
	server, err := batchd.New(o)
	if err != nil {
		return err
	}
	defer server.Close()
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	by := ""
	if f.upstream != "" {
		by = ", answered by " + f.upstream
	}
	fmt.Fprintf(a.out, "batchd serves http://%s/v1 from %s%s\n", l.Addr(), f.dir, by)
	if err := server.Serve(ctx, l); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return err
	}
	return nil
}
