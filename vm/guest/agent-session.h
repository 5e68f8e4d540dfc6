/* The agent's sessions of root: a shell on a pty, and a command without one. vm/README.md, Streams. */

#ifndef SLIPWAY_AGENT_SESSION_H
#define SLIPWAY_AGENT_SESSION_H

/* A root shell on a pty. First line of the stream: COLUMNS ROWS TERM. The shell is hung up when the stream ends. */
void serve_shell(int stream);

/* `sh -c TEXT`. First line: LENGTH; then TEXT, then its stdin. Output and exit status go back in frames. The command is
 * hung up when the stream is gone, not when only its stdin has ended. */
void serve_command(int stream);

#endif
