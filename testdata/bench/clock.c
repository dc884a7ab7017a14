/*
 * A stopwatch for the benchmark. The sandbox has a time namespace of its own, but
 * with no offset to the host's (time_namespaces(7)), so that both sides read the
 * same CLOCK_MONOTONIC.
 *
 *	clock now              print the clock, in ns: the first thing that it does
 *	clock first COMMAND…   run COMMAND, which runs "clock now" in the end; print how
 *	                       long that took to begin, TAB, how long COMMAND took, in ms
 *	clock whole COMMAND…   run COMMAND without its output; print how long it took, in ms
 *
 * When COMMAND fails, this does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(125);
}

/* Runs a command with its standard output at out, and says when that began. */
static pid_t start(char **argv, int out, long long *began)
{
	pid_t pid;

	*began = now();
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		dup2(out, 1);
		execvp(argv[0], argv);
		die(argv[0]);
	}
	close(out);
	return pid;
}

/* Waits for the command and says how long it took, in ns. */
static long long finish(pid_t pid, long long began)
{
	long long took;
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	took = now() - began;
	if (status != 0) {
		fprintf(stderr, "clock: the command failed\n");
		exit(1);
	}
	return took;
}

int main(int argc, char **argv)
{
	long long began, first, whole;
	pid_t pid;
	int fds[2];
	FILE *from;

	first = now();
	if (argc == 2 && !strcmp(argv[1], "now")) {
		printf("%lld\n", first);
		return fflush(stdout) ? 1 : 0;
	}
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "whole")) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		if (null < 0)
			die("/dev/null");
		pid = start(argv + 2, null, &began);
		whole = finish(pid, began);
		printf("%.3f\n", whole / 1e6);
		return 0;
	}
	if (strcmp(argv[1], "first"))
		return 2;
	if (pipe2(fds, O_CLOEXEC))
		die("pipe2");
	pid = start(argv + 2, fds[1], &began);
	from = fdopen(fds[0], "r");
	if (!from || fscanf(from, "%lld", &first) != 1) {
		fprintf(stderr, "clock: the command printed no clock\n");
		return 1;
	}
	whole = finish(pid, began);
	printf("%.3f\t%.3f\n", (first - began) / 1e6, whole / 1e6);
	return 0;
}
