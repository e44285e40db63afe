/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"

#include "base/bug.h"

#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	int64_t us;
};

/* Longest first; a compound names each at most once and in this order. */
static const struct unit units[] = {
	{ "w", 7 * US_PER_DAY },
	{ "d", US_PER_DAY },
	{ "h", US_PER_HOUR },
	{ "m", US_PER_MIN },
	{ "s", US_PER_S },
	{ "ms", US_PER_MS },
	{ "us", 1 },
};

enum { UNIT_COUNT = sizeof units / sizeof *units };

static size_t
count_while(struct span s, bool want_digits)
{
	size_t n = 0;

	while (n < s.len && (s.ptr[n] >= '0' && s.ptr[n] <= '9') == want_digits)
		n++;
	return n;
}

static size_t
find_unit(struct span name)
{
	size_t i = 0;

	while (i < UNIT_COUNT && !span_eq(name, span_of(units[i].name)))
		i++;
	return i;
}

bool
time_parse_duration(struct span s, int64_t *ret_us)
{
	int64_t total = 0;
	size_t next_unit = 0;

	if (!s.len)
		return false;
	while (s.len) {
		uint64_t number;
		size_t digits = count_while(s, true);
		if (!span_to_u64(span_slice(s, 0, digits), INT64_MAX, &number))
			return false;
		s = span_skip(s, digits);
		size_t letters = count_while(s, false);
		size_t unit = find_unit(span_slice(s, 0, letters));
		s = span_skip(s, letters);
		int64_t part;
		if (unit >= UNIT_COUNT || unit < next_unit ||
		    __builtin_mul_overflow(
			(int64_t)number, units[unit].us, &part) ||
		    __builtin_add_overflow(total, part, &total))
			return false;
		next_unit = unit + 1;
	}
	*ret_us = total;
	return true;
}

const char *
time_format_duration(int64_t us, char *buffer, size_t size)
{
	BUG_UNLESS(size >= 24);
	if (us == TIME_NEVER || us == 0) {
		(void)snprintf(buffer, size, us ? "never" : "0s");
		return buffer;
	}
	size_t len = 0;
	uint64_t rest = us < 0 ? -(uint64_t)us : (uint64_t)us;
	if (us < 0)
		buffer[len++] = '-';
	for (size_t i = 0; i < UNIT_COUNT && rest; i++) {
		uint64_t count = rest / (uint64_t)units[i].us;
		char part[32];
		if (!count)
			continue;
		rest %= (uint64_t)units[i].us;
		int n = snprintf(part, sizeof part, "%llu%s",
		    (unsigned long long)count, units[i].name);
		/* Millennia lose their microseconds rather than be cut. */
		if (len + (size_t)n >= size)
			break;
		memcpy(buffer + len, part, (size_t)n);
		len += (size_t)n;
	}
	buffer[len] = '\0';
	return buffer;
}

const char *
time_format_age(int64_t us, char *buffer, size_t size)
{
	BUG_UNLESS(size >= 24);
	long long min = us / US_PER_MIN;

	if (us < US_PER_MIN)
		(void)snprintf(buffer, size, "just now");
	else if (us < US_PER_HOUR)
		(void)snprintf(buffer, size, "%lld min", min);
	else if (us < US_PER_DAY && min % 60 == 0)
		(void)snprintf(buffer, size, "%lld h", min / 60);
	else if (us < US_PER_DAY)
		(void)snprintf(
		    buffer, size, "%lld h %lld min", min / 60, min % 60);
	else
		(void)snprintf(buffer, size, "%lld d", min / 1440);
	return buffer;
}

struct civil {
	int64_t year;
	unsigned month, day; /* from 1 */
	unsigned hour, minute, second, ms;
	unsigned weekday; /* 0 is Sunday */
};

/* The year starts in March here, so that the leap day is its last one; an era
 * is the 400 years after which the calendar repeats. */
enum { DAYS_PER_ERA = 146097, DAYS_TO_1970 = 719468 };

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t
days_from_date(int64_t year, unsigned month, unsigned day)
{
	year -= month <= 2;
	int64_t era = floor_div(year, 400);
	int64_t year_of_era = year - era * 400;
	int64_t day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 -
			     year_of_era / 100 + day_of_year;

	return era * DAYS_PER_ERA + day_of_era - DAYS_TO_1970;
}

static void
date_from_days(int64_t days, struct civil *ret_civil)
{
	days += DAYS_TO_1970;
	int64_t era = floor_div(days, DAYS_PER_ERA);
	int64_t day_of_era = days - era * DAYS_PER_ERA;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 +
				  day_of_era / 36524 - day_of_era / 146096) /
			      365;
	int64_t day_of_year =
	    day_of_era -
	    (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * day_of_year + 2) / 153;

	ret_civil->day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1);
	ret_civil->month = (unsigned)(month < 10 ? month + 3 : month - 9);
	ret_civil->year =
	    year_of_era + era * 400 + (ret_civil->month <= 2 ? 1 : 0);
}

/* 0000-01-01 and the last microsecond of 9999: what four digits can say. */
#define WALL_MIN_US (INT64_C(-62167219200) * US_PER_S)
#define WALL_MAX_US (INT64_C(253402300800) * US_PER_S - 1)

static struct civil
civil_from_wall(int64_t us)
{
	struct civil c = { 0 };

	if (us < WALL_MIN_US)
		us = WALL_MIN_US;
	if (us > WALL_MAX_US)
		us = WALL_MAX_US;
	int64_t days = floor_div(us, US_PER_DAY);
	int64_t rest = us - days * US_PER_DAY;
	date_from_days(days, &c);
	c.hour = (unsigned)(rest / US_PER_HOUR);
	c.minute = (unsigned)(rest / US_PER_MIN % 60);
	c.second = (unsigned)(rest / US_PER_S % 60);
	c.ms = (unsigned)(rest / US_PER_MS % 1000);
	/* 1970-01-01 was a Thursday. */
	c.weekday = (unsigned)(days + 4 - 7 * floor_div(days + 4, 7));
	return c;
}

/* Writes `width` digits and returns the end. Not snprintf: every log line and
 * trace field passes here. */
static char *
put_number(char *to, unsigned value, int width)
{
	for (int i = width - 1; i >= 0; i--) {
		to[i] = (char)('0' + value % 10);
		value /= 10;
	}
	return to + width;
}

static char *
put_clock(char *to, const struct civil *c)
{
	to = put_number(to, c->hour, 2);
	*to++ = ':';
	to = put_number(to, c->minute, 2);
	*to++ = ':';
	return put_number(to, c->second, 2);
}

const char *
time_format_rfc3339(int64_t wall_us, char buffer[static TIME_RFC3339_SIZE])
{
	struct civil c = civil_from_wall(wall_us);
	char *to = put_number(buffer, (unsigned)c.year, 4);

	*to++ = '-';
	to = put_number(to, c.month, 2);
	*to++ = '-';
	to = put_number(to, c.day, 2);
	*to++ = 'T';
	to = put_clock(to, &c);
	*to++ = '.';
	to = put_number(to, c.ms, 3);
	*to++ = 'Z';
	*to = '\0';
	return buffer;
}

const char *
time_format_rfc5322(int64_t wall_us, char buffer[static TIME_RFC5322_SIZE])
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct civil c = civil_from_wall(wall_us);
	char *to = mempcpy(buffer, days + 3 * (size_t)c.weekday, 3);

	*to++ = ',';
	*to++ = ' ';
	to = put_number(to, c.day, c.day < 10 ? 1 : 2);
	*to++ = ' ';
	to = mempcpy(to, months + 3 * (size_t)(c.month - 1), 3);
	*to++ = ' ';
	to = put_number(to, (unsigned)c.year, 4);
	*to++ = ' ';
	to = put_clock(to, &c);
	(void)mempcpy(to, " +0000", sizeof " +0000");
	return buffer;
}

/* Takes exactly `width` digits with a value of min to max. */
static bool
take_number(struct span *s, size_t width, const unsigned range[static 2],
    unsigned *ret_value)
{
	uint64_t value;

	if (s->len < width ||
	    !span_to_u64(span_slice(*s, 0, width), range[1], &value) ||
	    value < range[0])
		return false;
	*s = span_skip(*s, width);
	*ret_value = (unsigned)value;
	return true;
}

static bool
take_char(struct span *s, char c)
{
	if (!s->len || (s->ptr[0] != c && s->ptr[0] != (c | 0x20)))
		return false;
	*s = span_skip(*s, 1);
	return true;
}

static bool
take_date(struct span *s, struct civil *ret_civil)
{
	static const unsigned years[] = { 0, 9999 }, months[] = { 1, 12 },
			      days[] = { 1, 31 };
	unsigned year;

	if (!take_number(s, 4, years, &year) || !take_char(s, '-') ||
	    !take_number(s, 2, months, &ret_civil->month) ||
	    !take_char(s, '-') || !take_number(s, 2, days, &ret_civil->day))
		return false;
	ret_civil->year = year;
	/* A day that does not exist comes back as another one. */
	struct civil check;
	date_from_days(
	    days_from_date(year, ret_civil->month, ret_civil->day), &check);
	return check.day == ret_civil->day;
}

static bool
take_clock(struct span *s, struct civil *ret_civil)
{
	static const unsigned hours[] = { 0, 23 }, minutes[] = { 0, 59 },
			      seconds[] = { 0, 60 }; /* leap second */

	return take_number(s, 2, hours, &ret_civil->hour) &&
	       take_char(s, ':') &&
	       take_number(s, 2, minutes, &ret_civil->minute) &&
	       take_char(s, ':') &&
	       take_number(s, 2, seconds, &ret_civil->second);
}

/* Digits beyond microseconds are dropped. */
static bool
take_fraction(struct span *s, int64_t *ret_us)
{
	int64_t us = 0, unit = US_PER_S;

	if (s->len && s->ptr[0] == '.') {
		*s = span_skip(*s, 1);
		size_t digits = count_while(*s, true);
		if (!digits)
			return false;
		for (size_t i = 0; i < digits; i++) {
			unit /= 10;
			us += unit * (s->ptr[i] - '0');
		}
		*s = span_skip(*s, digits);
	}
	*ret_us = us;
	return true;
}

static bool
take_zone(struct span *s, int64_t *ret_us)
{
	static const unsigned hours[] = { 0, 23 }, minutes[] = { 0, 59 };
	unsigned hour, minute;

	if (take_char(s, 'Z')) {
		*ret_us = 0;
		return true;
	}
	if (!s->len || (s->ptr[0] != '+' && s->ptr[0] != '-'))
		return false;
	bool is_west = s->ptr[0] == '-';
	*s = span_skip(*s, 1);
	if (!take_number(s, 2, hours, &hour) || !take_char(s, ':') ||
	    !take_number(s, 2, minutes, &minute))
		return false;
	int64_t us = hour * US_PER_HOUR + minute * US_PER_MIN;
	*ret_us = is_west ? -us : us;
	return true;
}

bool
time_parse_rfc3339(struct span s, int64_t *ret_wall_us)
{
	struct civil c = { 0 };
	int64_t fraction, zone;

	if (!take_date(&s, &c) || !take_char(&s, 'T') || !take_clock(&s, &c) ||
	    !take_fraction(&s, &fraction) || !take_zone(&s, &zone) || s.len)
		return false;
	*ret_wall_us = days_from_date(c.year, c.month, c.day) * US_PER_DAY +
		       c.hour * US_PER_HOUR + c.minute * US_PER_MIN +
		       c.second * US_PER_S + fraction - zone;
	return true;
}
